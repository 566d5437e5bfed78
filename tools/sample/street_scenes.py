"""Synthetic street scenes in the folder layout of Cityscapes, for demonstrations without Cityscapes.

    python tools/sample/street_scenes.py data/cityscapes_sample --train 240 --val 80 --seed 0

writes leftImg8bit/{train,val}/<city>/*_leftImg8bit.png, gtFine/{train,val}/<city>/*_gtFine_instanceIds.png,
*_labelIds.png and *_polygons.json in the original layout: 16-bit instance ids of label id * 1000 + a
number, and the bare label id for groups of inseparable objects. The eight classes with instances are
solids or flat figures seen by a camera in the street. They differ by shape, hardly by color. The same
seed gives the same pictures.
"""
import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from drawing import Parts, Street, random_color

LABEL_IDS = {
    'static': 4, 'road': 7, 'sidewalk': 8, 'building': 11, 'pole': 17, 'traffic sign': 20, 'vegetation': 21, 'sky': 23,
    'person': 24, 'rider': 25, 'car': 26, 'truck': 27, 'bus': 28, 'train': 31, 'motorcycle': 32, 'bicycle': 33,
}  # yapf: disable
CITIES = {'train': ('lindau', 'marlow', 'orvieto'), 'val': ('tessin', )}
BLACK, GLASS, LAMP, REAR, SKIN = (25, 25, 25), (95, 80, 70), (215, 235,
                                                              240), (40, 35,
                                                                     190), np.array([120, 150, 200])

# Figures: flat, drawn in meters of their own vertical plane (along, up), which is rotated by a heading.


def plane(camera, right, ahead, heading, size=1.):
    """Return the mapping from (along, up) of a vertical plane to pixels of the picture."""

    def to_pixels(points):
        points = points * size
        world = np.stack([
            right + points[:, 0] * np.cos(heading), points[:, 1],
            ahead + points[:, 0] * np.sin(heading)
        ], 1)
        return camera.project(world)

    return to_pixels


def limb(parts, a, joint, b, thickness, color):
    parts.stroke([a, joint, b], thickness, color)


def draw_person(parts, rng):
    cloth, trousers = random_color(rng), random_color(rng, 20, 150)
    skin = SKIN * rng.uniform(.4, 1.15)
    hair = np.array([30, 40, 50]) * rng.uniform(.4, 3)
    stride = rng.uniform(.02, .34)
    broad = rng.uniform(.17, .25)
    swing = stride * rng.uniform(.4, 1.)
    for sign, shade in ((-1, .75), (1, 1.)):
        limb(parts, (sign * .07, .92), (sign * stride * .55 + .05, .5), (sign * stride, .07), .15,
             trousers * shade)
        parts.stroke([(sign * stride - .03, .05), (sign * stride + .13, .05)], .1, trousers * .4)
    limb(parts, (-broad, 1.38), (-broad - swing * .4, 1.1), (-swing - broad * .5, .88), .1,
         cloth * .7)
    coat = rng.random() < .3
    hem = .55 if coat else .85
    parts.polygon([(-broad, 1.45), (broad, 1.45), (broad * .85, 1.1),
                   (broad * (1.2 if coat else .8), hem), (-broad * (1.2 if coat else .8), hem),
                   (-broad * .85, 1.1)], cloth)
    parts.stroke([(-broad + .04, 1.42), (broad - .04, 1.42)], .12, cloth)
    limb(parts, (broad, 1.38), (broad + swing * .5, 1.12), (swing + broad * .8, .9), .1,
         cloth * .85)
    parts.disc(swing + broad * .8, .88, .055, skin)
    if rng.random() < .3:
        parts.polygon([(-broad - .16, 1.4), (-broad + .04, 1.42), (-broad + .04, .95),
                       (-broad - .14, .98)], random_color(rng))
    parts.stroke([(0, 1.45), (0, 1.55)], .1, skin * .85)
    parts.disc(0, 1.64, .115, skin, 1.2)
    parts.polygon([(-.125, 1.63), (-.1, 1.76), (0, 1.8), (.1, 1.76), (.125, 1.66), (.03, 1.71)],
                  hair)


def draw_bicycle(parts, rng):
    frame, tyre = random_color(rng, 30, 220, .25), np.full(3, rng.uniform(15, 45))
    for x in (-.53, .53):
        for angle in np.arange(0, np.pi, np.pi / 5) + rng.uniform(0, .5):
            dx, dy = .3 * np.cos(angle), .3 * np.sin(angle)
            parts.stroke([(x - dx, .34 - dy), (x + dx, .34 + dy)], .012, (120, 120, 120))
        parts.ring(x, .34, .345, .055, tyre)
    crank, saddle, head = (-.05, .3), (-.2, .85), (.38, .86)
    for a, b in ((crank, saddle), (crank, head), ((-.53, .34), crank), ((-.53, .34), (-.18, .78)),
                 ((-.18, .78), (.37, .8))):
        parts.stroke([a, b], .055, frame)
    parts.stroke([(.53, .34), (.36, .98)], .055, frame)
    parts.stroke([(.3, 1.03), (.36, .99), (.48, 1.02)], .05, BLACK)
    parts.stroke([(-.2, .85), (-.21, .93)], .04, BLACK)
    parts.stroke([(-.32, .95), (-.1, .95)], .07, BLACK)
    parts.disc(crank[0], crank[1], .09, BLACK)
    if rng.random() < .3:
        parts.polygon([(.4, .85), (.75, .85), (.7, 1.1), (.42, 1.1)],
                      np.array([60, 90, 130]) * rng.uniform(.6, 1.3))
    if rng.random() < .4:
        parts.stroke([(-.75, .73), (-.3, .73)], .04, BLACK)


def draw_motorcycle(parts, rng):
    paint, tyre = random_color(rng, 30, 220, .25), np.full(3, rng.uniform(15, 45))
    for x in (-.68, .7):
        parts.disc(x, .31, .32, tyre)
        parts.disc(x, .31, .18, (130, 130, 130))
        parts.disc(x, .31, .06, tyre)
    parts.polygon([(-.45, .28), (.32, .25), (.42, .6), (-.3, .62)], (75, 75, 80))  # the engine
    parts.disc(.05, .42, .17, (125, 125, 130))
    parts.stroke([(-.1, .24), (-.9, .3)], .1, (165, 165, 170))  # the exhaust
    parts.polygon([(-.2, .6), (.42, .58), (.46, .86), (.2, .98), (-.1, .88)], paint)  # the tank
    parts.polygon([(-.95, .88), (-.85, .72), (-.3, .62), (-.1, .72), (-.1, .88), (-.5, .82)],
                  BLACK)  # the seat
    parts.polygon([(-1., .86), (-.8, .62), (-.45, .6), (-.4, .74), (-.8, .78)], paint * .8)
    parts.stroke([(.7, .31), (.47, .98)], .09, (150, 150, 155))  # the fork
    parts.polygon([(.36, .62), (1.02, .58), (.92, .7), (.55, .72)], paint)  # the fender
    parts.disc(.6, .92, .13, LAMP)
    parts.stroke([(.46, 1.), (.3, 1.1)], .06, BLACK)
    if rng.random() < .45:
        parts.polygon([(.44, .98), (.68, 1.), (.5, 1.3)], (150, 140, 130))
    if rng.random() < .4:
        parts.polygon([(-1.08, .86), (-.62, .86), (-.66, 1.18), (-1.05, 1.18)], paint * .6)


def draw_rider(parts, rng, motorcycle):
    cloth, trousers = random_color(rng), random_color(rng, 20, 150)
    skin = SKIN * rng.uniform(.4, 1.15)
    hip, shoulder, hand = ((-.28, .9), (.0, 1.42),
                           (.36, 1.06)) if motorcycle else ((-.2, .98), (.1, 1.5), (.42, 1.06))
    shift = rng.uniform(-.06, .06)
    shoulder = (shoulder[0] + shift, shoulder[1] - abs(shift) * .5)
    phase = rng.uniform(0, 2 * np.pi)
    for sign, shade in ((-1, .7), (1, 1.)):
        if motorcycle:
            knee, foot = (.18, .72), (-.02 + .03 * sign, .3)
        else:
            foot = (-.05 + .16 * np.cos(phase) * sign, .3 + .16 * np.sin(phase) * sign)
            knee = ((hip[0] + foot[0]) / 2 + .26, (hip[1] + foot[1]) / 2 + .1)
        limb(parts, hip, knee, foot, .16, trousers * shade)
        parts.stroke([(foot[0] - .04, foot[1] - .03), (foot[0] + .16, foot[1] - .03)], .09,
                     trousers * .4)
    parts.stroke([hip, shoulder], .3, cloth)
    parts.stroke([hip, shoulder], .22, cloth * 1.1)
    if rng.random() < .35:
        parts.polygon([(hip[0] - .22, hip[1] + .2), (hip[0] - .06, hip[1] + .15),
                       (shoulder[0] - .08, shoulder[1] + .02),
                       (shoulder[0] - .3, shoulder[1] - .02)], random_color(rng))
    elbow = ((shoulder[0] + hand[0]) / 2 - .02, (shoulder[1] + hand[1]) / 2 - .12)
    limb(parts, shoulder, elbow, hand, .11, cloth * .85)
    parts.disc(hand[0], hand[1], .055, skin)
    top = (shoulder[0] + .09, shoulder[1] + .23)
    parts.stroke([shoulder, top], .1, skin * .85)
    if motorcycle or rng.random() < .5:
        helmet = random_color(rng)
        parts.disc(top[0], top[1], .155 if motorcycle else .125, helmet if motorcycle else skin)
        if motorcycle:
            parts.polygon([(top[0] + .03, top[1] + .05), (top[0] + .15, top[1] + .05),
                           (top[0] + .15, top[1] - .05), (top[0] + .03, top[1] - .05)], BLACK)
        else:
            parts.polygon([(top[0] - .16, top[1] + .02), (top[0] - .1, top[1] + .15),
                           (top[0] + .05, top[1] + .17), (top[0] + .17, top[1] + .03)], helmet)
    else:
        parts.disc(top[0], top[1], .115, skin, 1.2)
        parts.polygon([(top[0] - .13, top[1] - .02), (top[0] - .1, top[1] + .12),
                       (top[0] + .02, top[1] + .16), (top[0] + .13, top[1] + .04)],
                      np.array([30, 40, 50]) * rng.uniform(.4, 3))


# Solids: boxes in meters (along, across, up), possibly wider at the bottom, with decals on their faces.


class Solid:
    """A box whose top may be smaller than its bottom.

    Args:
        bottom, top: (x0, x1, half width, height) of the two level faces; x is along the vehicle, front at larger x.
    """

    def __init__(self, bottom, top, color, face_colors=None):
        x0, x1, w, z = bottom
        u0, u1, v, t = top
        self.color, self.face_colors = np.asarray(color), face_colors or {}
        self.faces = {  # corners: lower left, lower right, upper right, upper left as seen from outside
            'right': [(x0, -w, z), (x1, -w, z), (u1, -v, t), (u0, -v, t)],
            'left': [(x1, w, z), (x0, w, z), (u0, v, t), (u1, v, t)],
            'front': [(x1, -w, z), (x1, w, z), (u1, v, t), (u1, -v, t)],
            'back': [(x0, w, z), (x0, -w, z), (u0, -v, t), (u0, v, t)],
            'top': [(u0, -v, t), (u1, -v, t), (u1, v, t), (u0, v, t)],
        }
        self.decals = []  # (face, u0, u1, v0, v1, color), fractions of the face

    def decal(self, face, u0, u1, v0, v1, color):
        self.decals.append((face, u0, u1, v0, v1, color))
        return self

    def sides(self, u0, u1, v0, v1, color):
        """Add the same decal to both sides; u runs from the back of the vehicle to its front."""
        self.decal('right', u0, u1, v0, v1, color)
        return self.decal('left', 1 - u1, 1 - u0, v0, v1, color)


def bilinear(corners, u, v):
    a, b, c, d = (np.asarray(corner, np.float64) for corner in corners)
    return (a * (1 - u) + b * u) * (1 - v) + (d * (1 - u) + c * u) * v


def draw_solids(camera, right, ahead, heading, solids, wheels=(), extras=()):
    """Return the parts of a vehicle: faces towards the camera, their decals, wheels on the near side.

    Args:
        wheels: (x, half width, radius), meters.
        extras: (points [N, 3], color), painted last, from both sides.
    """
    cosine, sine = np.cos(heading), np.sin(heading)

    def world(points):
        points = np.asarray(points, np.float64)
        return np.stack([
            right + points[:, 0] * cosine - points[:, 1] * sine, points[:, 2],
            ahead + points[:, 0] * sine + points[:, 1] * cosine
        ], 1)

    parts = Parts(lambda points: camera.project(world(points)))
    eye = np.array([0, camera.eye, 0])
    sun = np.array([-.35, .85, -.4])

    def seen(corners):
        """Return the brightness of a face, or None if it faces away."""
        a, b, c, _ = world(corners)
        normal = np.cross(c - a, b - a)  # (right, up, ahead) is left-handed
        normal /= np.linalg.norm(normal) + 1e-9
        middle = world(corners).mean(0)
        if normal @ (eye - middle) < 0:
            return None
        return .8 + .25 * (normal @ sun)

    order = sorted(
        solids,
        key=lambda solid: -np.linalg.norm(world([bilinear(solid.faces['top'], .5, .5)])[0] - eye))
    for solid in order:
        for name, corners in solid.faces.items():
            bright = seen(corners)
            if bright is None:
                continue
            parts.polygon(corners, np.asarray(solid.face_colors.get(name, solid.color)) * bright)
            for face, u0, u1, v0, v1, color in solid.decals:
                if face == name:
                    points = [
                        bilinear(corners, u, v) for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))
                    ]
                    parts.polygon(points, np.asarray(color) * bright)
    angle = np.linspace(0, 2 * np.pi, 21)[:-1]
    for x, half, radius in wheels:
        for side in (-1, 1):
            if seen([(x - 1, side * half, 0), (x + 1, side * half, 0), (x + 1, side * half, 1),
                     (x - 1, side * half, 1)][::-side]) is None:
                continue
            for share, color in ((1., BLACK), (.58, (150, 150, 150)), (.2, BLACK)):
                parts.polygon(
                    np.stack([
                        x + share * radius * np.cos(angle),
                        np.full(20, side * half), radius + share * radius * np.sin(angle)
                    ], 1), color)
    for points, color in extras:
        parts.polygon(points, color)
    return parts


def car(rng):
    paint = random_color(rng)
    long, half = rng.uniform(3.7, 4.7), rng.uniform(.85, .92)
    x0, x1 = -long / 2, long / 2
    waist, roof = rng.uniform(.8, .95), rng.uniform(1.38, 1.75)
    kind = rng.integers(0, 3)  # a sedan, a hatchback, a van
    back = (x0 + .75, x0 + .06, x0 + .04)[kind]
    front = (x1 - 1.05, x1 - 1.1, x1 - .75)[kind]
    roof += .15 * (kind == 2)
    body = Solid((x0, x1, half, .22), (x0 + .04, x1 - .06, half - .03, waist), paint)
    body.decal('front', .06, .26, .52, .8, LAMP).decal('front', .74, .94, .52, .8,
                                                       LAMP).decal('front', .32, .68, .3, .6, BLACK)
    body.decal('back', .04, .22, .55, .85, REAR).decal('back', .78, .96, .55, .85,
                                                       REAR).decal('back', .38, .62, .35, .55,
                                                                   (220, 220, 220))
    body.sides(0, 1, 0, .12, paint * .45).sides(.49, .5, .1, 1,
                                                paint * .6).sides(.97, 1, .6, .8,
                                                                  LAMP).sides(0, .03, .6, .8, REAR)
    glass = np.array(GLASS) * rng.uniform(.6, 1.2)
    cabin = Solid(
        (back, front, half - .06, waist),
        (back + (.45 if kind == 0 else .25), front - rng.uniform(.5, .8), half - .18, roof),
        paint * .95)
    cabin.sides(.06, .47, .12, .85, glass).sides(.52, .92, .12, .85, glass)
    cabin.decal('front', .06, .94, .1, .9, glass).decal('back', .08, .92, .15, .88, glass)
    axle = long * rng.uniform(.29, .32)
    return [body, cabin], [(-axle, half, .32), (axle, half, .32)], [], .55 * long


def truck(rng):
    paint, box = random_color(rng), random_color(rng, 60, 235, .5)
    long, half, tall = rng.uniform(5.8, 8.), 1.22, rng.uniform(2.7, 3.5)
    x0, x1 = -long / 2, long / 2
    cab_back = x1 - rng.uniform(1.6, 2.)
    glass = np.array(GLASS) * rng.uniform(.6, 1.2)
    chassis = Solid((x0, x1 - .3, half - .25, .45), (x0, x1 - .3, half - .25, .85), (55, 55, 55))
    cargo = Solid((x0, cab_back - .15, half, .85), (x0, cab_back - .15, half, tall), box)
    cargo.decal('back', .48, .52, 0, 1, box * .6).decal('back', .05, .15, 0, .06,
                                                        REAR).decal('back', .85, .95, 0, .06, REAR)
    style = rng.integers(0, 3)
    if style == 0:
        cargo.sides(.15, .85, .35, .65, random_color(rng))
    elif style == 1:
        for u in np.arange(.08, 1, .12):
            cargo.sides(u, u + .015, 0, 1, box * .7)
    high = min(tall - .1, rng.uniform(2.3, 2.8))
    cab = Solid((cab_back, x1, half, .45), (cab_back, x1 - .25, half - .05, high), paint)
    cab.sides(.35, .85, .52, .86, glass).sides(.28, .3, .1, .9, paint * .6)
    cab.decal('front', .07, .93, .5, .88, glass).decal('front', .08, .24, .1, .24,
                                                       LAMP).decal('front', .76, .92, .1, .24, LAMP)
    cab.decal('front', .3, .7, .12, .4, BLACK)
    wheels = [(x1 - .9, half, .48),
              (x0 + 1., half, .48)] + ([(x0 + 2.05, half, .48)] if rng.random() < .6 else [])
    return [chassis, cargo, cab], wheels, [], .55 * long


def bus(rng):
    paint = random_color(rng, 60, 235, .2)
    long, half, tall = rng.uniform(8.5, 11.), 1.25, rng.uniform(2.9, 3.2)
    x0, x1 = -long / 2, long / 2
    glass = np.array(GLASS) * rng.uniform(.6, 1.2)
    body = Solid((x0, x1, half, .3), (x0 + .05, x1 - .12, half - .04, tall), paint,
                 dict(top=paint * .9))
    count = rng.integers(5, 8)
    for i in range(count):
        body.sides((i + .08) / count, (i + .92) / count, .5, .84, glass)
    for u in (.1, .52):
        body.decal('right', 1 - u - .11, 1 - u, .04, .84,
                   glass * .8).decal('right', 1 - u - .057, 1 - u - .053, .04, .84, paint * .7)
    body.sides(0, 1, .3, .4, random_color(rng))
    body.decal('front', .05, .95, .36, .8,
               glass).decal('front', .15, .85, .84, .95,
                            (30, 30, 30)).decal('front', .25, .7, .87, .92, (40, 190, 240))
    body.decal('front', .06, .2, .1, .2, LAMP).decal('front', .8, .94, .1, .2, LAMP)
    body.decal('back', .15, .85, .5, .85, glass).decal('back', .04, .14, .1, .3,
                                                       REAR).decal('back', .86, .96, .1, .3, REAR)
    wheels = [(x1 - 2.3, half, .47), (x0 + 2.4, half, .47)]
    return [body], wheels, [], .52 * long


def train(rng):
    """Build a tram: low skirts instead of wheels, a slanted nose, a current collector on its roof."""
    paint, stripe = random_color(rng, 60, 235, .3), random_color(rng, 60, 235, .1)
    long, half, tall = rng.uniform(11., 15.), 1.22, rng.uniform(3.1, 3.4)
    x0 = -long / 2
    glass = np.array(GLASS) * rng.uniform(.6, 1.1)
    solids = []
    cars = rng.integers(2, 4)
    step = long / cars
    for i in range(cars):
        a, b = x0 + i * step + .12 * (i > 0), x0 + (i + 1) * step - .12 * (i < cars - 1)
        nose, tail = (.75 if i == cars - 1 else 0.), (.75 if i == 0 else 0.)
        body = Solid((a, b, half, .12), (a + tail, b - nose, half - .06, tall), paint,
                     dict(top=(110, 110, 110)))
        body.sides(0, 1, 0, .13, (60, 60, 60)).sides(0, 1, .2, .38, stripe)
        for u in (.1, .42, .74):
            body.sides(u, u + .2, .46, .85, glass)
        body.sides(.32, .4, .05, .88, glass * .7).sides(.64, .72, .05, .88, glass * .7)
        if i == cars - 1:
            body.decal('front', .1, .9, .42, .84, glass).decal('front', .3, .7, .87, .95,
                                                               (40, 190, 240))
            body.decal('front', 0, 1, .14, .3, stripe).decal('front', .42, .58, .17, .27, LAMP)
        if i == 0:
            body.decal('back', .1, .9, .42, .84,
                       glass).decal('back', .1, .25, .17, .27,
                                    REAR).decal('back', .75, .9, .17, .27, REAR)
        solids.append(body)
    for i in range(1, cars):
        a = x0 + i * step
        solids.append(
            Solid((a - .13, a + .13, half - .15, .25), (a - .13, a + .13, half - .15, tall - .15),
                  (50, 50, 50)))
    middle = x0 + step * rng.uniform(.4, .6)
    extras = []
    for p, q in (((-.6, tall), (.5, tall + .65)), ((.5, tall + .65), (-.3, tall + 1.2)),
                 ((-.8, tall + 1.2), (.2, tall + 1.2)), ((-.7, tall + .05), (.6, tall + .05))):
        extras.append(([(middle + p[0], 0, p[1]), (middle + q[0], 0, q[1]),
                        (middle + q[0], 0, q[1] + .1),
                        (middle + p[0], 0, p[1] + .1)], (40, 40, 40)))
    return solids, [], extras, .52 * long


FIGURES = dict(person=draw_person, bicycle=draw_bicycle, motorcycle=draw_motorcycle)
VEHICLES = dict(car=car, truck=truck, bus=bus, train=train)
NEAREST = dict(person=6, bicycle=6, motorcycle=6, car=9, truck=13, bus=15, train=17)
FARTHEST = dict(person=16, bicycle=14, motorcycle=15, car=30, truck=36, bus=38, train=40)


def headings(rng):
    """Sample a heading along or across the street, rarely between; radians from the right of the picture."""
    base = rng.choice([0, np.pi, np.pi / 2, -np.pi / 2], p=[.34, .34, .16, .16])
    return base + rng.normal(0, .22)


class Scene:
    """One street with objects on it.

    Attributes:
        image: uint8 [H, W, 3], BGR.
        objects: (label, outline, is a group) from far to near, as the polygons of Cityscapes are listed.
    """

    def __init__(self, seed, width=512, height=256):
        self.rng = rng = np.random.default_rng(seed)
        self.width, self.height = width, height
        self.street = Street(width, height, rng)
        self.camera = self.street.camera
        self.objects = [(label, outline, False) for label, outline in self.street.regions]
        plan = self._plan()
        for item in sorted(plan, key=lambda item: -item['ahead']):
            self._draw(item)
        self.image = self.street.canvas.finish()

    def _plan(self):
        """Choose objects and positions; a position with too much overlap is sampled again, then given up."""
        rng = self.rng
        kinds = ['person', 'person', 'bicycle', 'motorcycle', 'car', 'truck', 'bus', 'train']
        wanted = list(rng.choice(['truck', 'bus', 'train'], rng.integers(1, 3), replace=False))
        wanted += list(
            rng.choice(['car', 'person', 'bicycle', 'motorcycle', 'car', 'person'],
                       rng.integers(3, 8)))
        if rng.random() < .1:
            wanted.append('group')
        plan, taken = [], []
        for kind in wanted:
            assert kind in kinds or kind == 'group'
            for _ in range(12):
                item = self._add_object(kind)
                x0, y0, x1, y1 = box = item['box']
                area = max(1., (x1 - x0) * (y1 - y0))
                shown = max(0,
                            min(x1, self.width) - max(x0, 0)) * max(
                                0,
                                min(y1, self.height) - max(y0, 0))
                hidden = max((self._overlap(box, other) for other in taken), default=0.)
                if shown / area > .65 and hidden < .3:
                    plan.append(item)
                    taken.append(box)
                    break
        return plan

    @staticmethod
    def _overlap(a, b):
        """Return the intersection of two boxes over the smaller area."""
        wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
        return max(0, wide) * max(0, tall) / max(1., smaller)

    def _add_object(self, kind):
        rng, camera = self.rng, self.camera
        source = 'person' if kind == 'group' else kind
        near, far = (22, 32) if kind == 'group' else (NEAREST[source], FARTHEST[source])
        ahead = np.exp(rng.uniform(np.log(near), np.log(far)))
        right = rng.uniform(-.5, .5) * self.width * ahead / camera.focal
        heading = headings(rng)
        item = dict(kind=kind, ahead=ahead, right=right, heading=heading)
        if kind in VEHICLES:
            solids, wheels, extras, _ = VEHICLES[kind](rng)
            parts = [(kind, draw_solids(camera, right, ahead, heading, solids, wheels, extras))]
        elif kind == 'group':
            parts = [(kind, self._crowd(right, ahead))]
        else:
            size = rng.uniform(.9, 1.08)
            # A two-wheeler seen from its end is a line, so it is rotated enough to have a shape.
            heading = rng.choice([0, np.pi]) + rng.uniform(-.75, .75)
            transform = plane(camera, right, ahead, heading, size)
            first = Parts(transform)
            FIGURES[kind](first, rng)
            parts = [(kind, first)]
            if kind != 'person' and rng.random() < .62:
                rider = Parts(transform)
                draw_rider(rider, rng, kind == 'motorcycle')
                parts.append(('rider', rider))
        points = np.concatenate([points for _, part in parts for points, _ in part.polygons])
        return dict(item, parts=parts, box=(*points.min(0), *points.max(0)))

    def _crowd(self, right, ahead):
        """Draw people that are too far away and too close together to be separated, as one region."""
        rng = self.rng
        parts = None
        for i in range(rng.integers(4, 8)):
            one = Parts(
                plane(self.camera, right + i * .38, ahead + rng.uniform(-.3, .3), 0,
                      rng.uniform(.85, 1.05)))
            draw_person(one, rng)
            if parts is None:
                parts = one
            else:
                parts.polygons += one.polygons
        return parts

    def _draw(self, item):
        street, camera = self.street, self.camera
        meter = camera.focal / item['ahead']
        x0, _, x1, _ = item['box']
        foot = camera.ground(item['right'], item['ahead'])
        if item['kind'] == 'train':
            self._rails(item)
        deep = 1.2 if item['kind'] in VEHICLES else .35
        street.canvas.ellipse_shadow(((x0 + x1) / 2, foot[1]), (x1 - x0) * .52,
                                     max(1.5, deep * meter * .3), .5)
        light = self.rng.uniform(.8, 1.15)
        for label, parts in item['parts']:
            outline = street.paint(parts, item['ahead'], light=light)
            if outline is not None:
                is_group = label == 'group'
                self.objects.append(('person' if is_group else label, outline, is_group))

    def _rails(self, item):
        cosine, sine = np.cos(item['heading']), np.sin(item['heading'])
        for across in (-.75, .75):
            ends = [[
                item['right'] + x * cosine - across * sine, 0,
                item['ahead'] + x * sine + across * cosine
            ] for x in (-14, 14)]
            if min(end[2] for end in ends) > 2:
                p, q = self.camera.project(ends)
                self.street.canvas.line(p, q, 1., (60, 60, 65))

    def label_maps(self):
        """Return uint8 label ids and uint16 instance ids, [H, W] each, painted from far to near."""
        labels = np.zeros((self.height, self.width), np.uint8)
        instances = np.zeros((self.height, self.width), np.uint16)
        counts = {}
        for label, outline, is_group in self.objects:
            label_id = LABEL_IDS[label]
            value = label_id
            if label_id >= 24 and not is_group:
                value = label_id * 1000 + counts.get(label, 0)
                counts[label] = counts.get(label, 0) + 1
            cv2.fillPoly(labels, [outline], label_id)
            cv2.fillPoly(instances, [outline], value)
        return labels, instances

    def polygons(self):
        objects = [
            dict(label=label + 'group' * is_group, polygon=outline.tolist())
            for label, outline, is_group in self.objects
        ]
        return dict(imgHeight=self.height, imgWidth=self.width, objects=objects)


def write_scene(root, split, index, seed):
    city = CITIES[split][index % len(CITIES[split])]
    stem = f'{city}_{index:06d}_000019'
    scene = Scene((seed, 0 if split == 'train' else 1, index))
    labels, instances = scene.label_maps()
    images, truth = Path(root, 'leftImg8bit', split, city), Path(root, 'gtFine', split, city)
    images.mkdir(parents=True, exist_ok=True)
    truth.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(images / f'{stem}_leftImg8bit.png'), scene.image)
    cv2.imwrite(str(truth / f'{stem}_gtFine_labelIds.png'), labels)
    cv2.imwrite(str(truth / f'{stem}_gtFine_instanceIds.png'), instances)
    (truth / f'{stem}_gtFine_polygons.json').write_text(json.dumps(scene.polygons()))


def _write(arguments):
    cv2.setNumThreads(1)
    write_scene(*arguments)


def main():
    parser = argparse.ArgumentParser(description='Draw street scenes in the layout of Cityscapes')
    parser.add_argument('out', help='folder for leftImg8bit and gtFine')
    parser.add_argument('--train', type=int, default=240, help='number of training images')
    parser.add_argument('--val', type=int, default=80, help='number of validation images')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=2)
    args = parser.parse_args()
    tasks = [(args.out, split, i, args.seed) for split in ('train', 'val')
             for i in range(getattr(args, split))]
    with ProcessPoolExecutor(args.workers) as pool:
        for _ in pool.map(_write, tasks, chunksize=8):
            pass
    print(f'{args.train} training and {args.val} validation images in {args.out}')


if __name__ == '__main__':
    main()
