"""The synthetic pretraining set of the sample: eighty classes that exclude the eight of the street scenes.

    python tools/sample/shape_scenes.py data/shapes --train 1600 --val 80 --seed 0

writes {train,val}/*.png and annotations/{train,val}.json in COCO's format. It has eighty classes, like COCO, on the
same empty streets as street_scenes.py: tools, furniture, animals, vessels, letters and solids. They consist of the
same kinds of parts (discs, strokes, faces with decals), so that the features learned here transfer.
"""
import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from drawing import Parts, Street, random_color
from street_scenes import Solid, draw_solids

# Flat objects are drawn in a square of about -1..1 with y up; solids in meters.


def around(count, radius, start=np.pi / 2):
    angle = start + np.arange(count) * 2 * np.pi / count
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def star(count, inner):
    outer, notch = around(count, 1.), around(count, inner, np.pi / 2 + np.pi / count)
    return np.stack([outer, notch], 1).reshape(-1, 2)


def polygon_with_border(count):

    def draw(p, a, b):
        p.polygon(around(count, 1.), a)
        p.polygon(around(count, .62), b)

    return draw


def star_with_core(count, inner):

    def draw(p, a, b):
        p.polygon(star(count, inner), a)
        p.disc(0, 0, inner * .6, b)

    return draw


def letter(*strokes):

    def draw(p, a, b):
        for points in strokes:
            p.stroke(points, .36, a)

    return draw


def chain(*discs):

    def draw(p, a, b):
        for i, (x, y, radius) in enumerate(discs):
            p.disc(x, y, radius, (a, b)[i % 2])

    return draw


def beast(body, legs, neck, head, tail, ear):
    """Build a function that draws an animal from the side.

    body is (x0, x1, y, thickness), legs (count, length, thickness), head (x, y, radius), neck and tail are
    points, ear a length.
    """

    def draw(p, a, b):
        x0, x1, y, thick = body
        count, length, leg = legs
        for i, x in enumerate(np.linspace(x0 + leg, x1 - leg, count)):
            p.stroke([(x, y), (x + .05 * (-1)**i, y - length)], leg, a * (.75 if i % 2 else .95))
        p.stroke([(x0, y), (x1, y)], thick, a)
        p.stroke(neck, thick * .5, a)
        p.disc(head[0], head[1], head[2], a * .9, .8)
        p.stroke([(head[0], head[1] - head[2] * .2),
                  (head[0] + head[2] * 1.3, head[1] - head[2] * .4)], head[2] * .8, a * .8)
        p.stroke(tail, .09, b)
        p.stroke([(head[0] - head[2] * .4, head[1] + head[2] * .5),
                  (head[0] - head[2] * .4, head[1] + head[2] * .5 + ear)], .12, b)

    return draw


def table(p, a, b):
    p.stroke([(-.8, .3), (-.85, -.8)], .14, a * .8)
    p.stroke([(.8, .3), (.85, -.8)], .14, a * .8)
    p.polygon([(-1, .3), (1, .3), (.9, .52), (-.9, .52)], a)


def chair(p, a, b):
    for x in (-.45, .45):
        p.stroke([(x, -.1), (x * 1.1, -1)], .14, a * .8)
    p.polygon([(-.55, -.15), (.6, -.15), (.55, .08), (-.55, .08)], b)
    p.polygon([(-.55, 0), (-.35, 0), (-.4, 1), (-.62, 1)], a)


def stool(p, a, b):
    for x in (-.3, 0, .3):
        p.stroke([(x, .2), (x * 2, -1)], .12, a * .8)
    p.disc(0, .28, .6, b, .35)


def bed(p, a, b):
    p.polygon([(-1, -.5), (-.85, -.5), (-.85, .55), (-1, .55)], a)
    p.polygon([(.85, -.5), (1, -.5), (1, .2), (.85, .2)], a)
    p.polygon([(-.9, -.3), (.9, -.3), (.9, .1), (-.9, .1)], b)
    p.disc(-.6, .15, .22, (225, 225, 225), .6)


def mug(p, a, b):
    p.ring(.62, 0, .36, .14, a * .85)
    p.polygon([(-.6, -.8), (.55, -.8), (.6, .8), (-.65, .8)], a)
    p.polygon([(-.62, -.1), (.57, -.1), (.58, .2), (-.63, .2)], b)


def bottle(p, a, b):
    p.polygon([(-.36, -1), (.36, -1), (.36, .2), (.13, .5), (.13, 1), (-.13, 1), (-.13, .5),
               (-.36, .2)], a)
    p.polygon([(-.36, -.6), (.36, -.6), (.36, 0), (-.36, 0)], b)


def goblet(p, a, b):
    p.polygon([(-.55, .95), (.55, .95), (.45, .3), (.1, 0), (-.1, 0), (-.45, .3)], a)
    p.stroke([(0, .1), (0, -.85)], .13, a * .8)
    p.polygon([(-.5, -1), (.5, -1), (.3, -.85), (-.3, -.85)], b)


def kettle(p, a, b):
    p.ring(0, .55, .45, .12, b)
    p.polygon([(-.7, -.8), (.7, -.8), (.55, .35), (-.55, .35)], a)
    p.polygon([(.5, -.2), (1.05, .4), (.9, .45), (.45, .15)], a * .8)
    p.disc(0, .42, .14, b)


def floor_lamp(p, a, b):
    p.stroke([(0, .4), (0, -.95)], .09, b)
    p.polygon([(-.4, -1), (.4, -1), (.3, -.88), (-.3, -.88)], b)
    p.polygon([(-.55, .25), (.55, .25), (.3, 1), (-.3, 1)], a)


def umbrella(p, a, b):
    p.stroke([(0, .3), (0, -.85), (.22, -.95), (.3, -.75)], .1, b)
    half = around(24, 1.)[np.r_[18:24, 0:7]]
    p.polygon(np.concatenate([half * [1, .9], [(.5, .12), (0, -.02), (-.5, .12)]]), a)


def mushroom(p, a, b):
    p.polygon([(-.25, -.9), (.25, -.9), (.18, .2), (-.18, .2)], b)
    p.polygon([(-.95, .05), (.95, .05), (.7, .65), (0, .95), (-.7, .65)], a)
    for x, y in ((-.4, .35), (.3, .3), (0, .65)):
        p.disc(x, y, .13, b)


def fir(p, a, b):
    p.polygon([(-.12, -1), (.12, -1), (.12, -.5), (-.12, -.5)], b)
    for y, half in ((-.6, .8), (-.15, .6), (.3, .42)):
        p.polygon([(-half, y), (half, y), (0, y + .7)], a)


def tent(p, a, b):
    p.polygon([(-1, -.7), (1, -.7), (0, .8)], a)
    p.polygon([(-.3, -.7), (.3, -.7), (0, .4)], b)


def hut(p, a, b):
    p.polygon([(-.7, -.9), (.7, -.9), (.7, .15), (-.7, .15)], a)
    p.polygon([(-.95, .15), (.95, .15), (0, .95)], b)
    p.polygon([(-.15, -.9), (.2, -.9), (.2, -.25), (-.15, -.25)], b * .6)


def windmill(p, a, b):
    p.polygon([(-.4, -1), (.4, -1), (.22, .2), (-.22, .2)], a)
    for x, y in around(4, 1., .5):
        p.stroke([(0, .2), (x * .9, .2 + y * .9)], .14, b)
    p.disc(0, .2, .13, a * .7)


def tower(p, a, b):
    p.polygon([(-.35, -1), (.35, -1), (.28, .5), (-.28, .5)], a)
    for x in (-.4, -.08, .24):
        p.polygon([(x, .5), (x + .18, .5), (x + .18, .75), (x, .75)], a)
    p.polygon([(-.45, .35), (.45, .35), (.45, .55), (-.45, .55)], a)
    p.polygon([(-.1, -.3), (.1, -.3), (.1, .05), (-.1, .05)], b)


def fish(p, a, b):
    p.polygon([(-.5, 0), (-1.05, .45), (-1.05, -.45)], b)
    p.disc(.1, 0, .8, a, .5)
    p.disc(.55, .1, .1, (20, 20, 20))
    p.polygon([(0, .3), (.35, .3), (.05, .65)], b)


def bird(p, a, b):
    p.stroke([(-.05, -.3), (-.05, -.95)], .07, b)
    p.stroke([(.15, -.3), (.2, -.95)], .07, b)
    p.disc(0, -.1, .55, a, .65)
    p.disc(.5, .4, .26, a)
    p.polygon([(.7, .48), (1.05, .36), (.72, .3)], b)
    p.polygon([(-.4, 0), (-1.05, .25), (-.45, -.3)], a * .7)


def snail(p, a, b):
    p.stroke([(-.9, -.6), (.7, -.6), (.85, .1)], .28, a)
    p.stroke([(.85, .1), (.75, .5)], .08, a)
    p.disc(-.1, -.05, .6, b)
    p.disc(-.05, -.05, .36, a)
    p.disc(-.02, -.05, .16, b)


def butterfly(p, a, b):
    for side in (-1, 1):
        p.disc(side * .5, .35, .48, a)
        p.disc(side * .4, -.4, .38, a * .8)
        p.disc(side * .5, .35, .2, b)
    p.stroke([(0, .6), (0, -.6)], .16, (30, 30, 30))


def gear(p, a, b):
    for x, y in around(8, .85):
        p.stroke([(x * .6, y * .6), (x, y)], .3, a)
    p.disc(0, 0, .7, a)
    p.disc(0, 0, .28, b)


def flower(p, a, b):
    p.stroke([(0, 0), (0, -1)], .1, (50, 120, 50))
    for x, y in around(6, .42):
        p.disc(x, y + .4, .26, a)
    p.disc(0, .4, .24, b)


def snowflake(p, a, b):
    for x, y in around(6, 1.):
        p.stroke([(0, 0), (x, y)], .13, a)
        for turn in (-.5, .5):
            c, s = np.cos(turn), np.sin(turn)
            p.stroke([(x * .55, y * .55), ((x * c - y * s) * .85, (x * s + y * c) * .85)], .1, a)


def spoked_ring(p, a, b):
    for x, y in around(6, .85):
        p.stroke([(0, 0), (x, y)], .06, b)
    p.ring(0, 0, 1., .2, a)
    p.disc(0, 0, .18, a)


def heart(p, a, b):
    p.disc(-.42, .35, .5, a)
    p.disc(.42, .35, .5, a)
    p.polygon([(-.86, .12), (.86, .12), (0, -1)], a)


def crescent(p, a, b):
    outer = around(32, 1.)
    inner = around(32, .8)[::-1] + [.35, 0]
    p.polygon(np.concatenate([outer[4:24], inner[9:27]]), a)


def drop(p, a, b):
    p.disc(0, -.35, .62, a)
    p.polygon([(-.58, -.15), (.58, -.15), (0, 1)], a)
    p.disc(-.2, -.35, .16, b)


def cloud(p, a, b):
    for x, y, r in ((-.6, -.1, .4), (0, .1, .55), (.6, -.1, .42), (-.2, -.25, .35), (.25, -.25,
                                                                                     .35)):
        p.disc(x, y, r, a)


def key(p, a, b):
    p.ring(-.6, 0, .4, .16, a)
    p.stroke([(-.25, 0), (.95, 0)], .15, a)
    p.stroke([(.6, 0), (.6, -.3)], .14, a)
    p.stroke([(.9, 0), (.9, -.35)], .14, a)


def hammer(p, a, b):
    p.stroke([(0, .5), (0, -1)], .17, b)
    p.polygon([(-.6, .35), (.5, .35), (.75, .55), (.5, .8), (-.6, .8)], a)


def spade(p, a, b):
    p.stroke([(0, .95), (0, -.2)], .12, b)
    p.stroke([(-.25, .95), (.25, .95)], .13, b)
    p.polygon([(-.4, -.1), (.4, -.1), (.38, -.6), (0, -1), (-.38, -.6)], a)


def scissors(p, a, b):
    p.stroke([(-.3, -.45), (.45, .95)], .13, a)
    p.stroke([(.3, -.45), (-.45, .95)], .13, a)
    p.ring(-.4, -.7, .3, .12, b)
    p.ring(.4, -.7, .3, .12, b)


def ladder(p, a, b):
    for x in (-.35, .35):
        p.stroke([(x, -1), (x * .8, 1)], .12, a)
    for y in np.linspace(-.75, .75, 5):
        p.stroke([(-.33, y), (.33, y)], .1, a * .85)


def fence(p, a, b):
    for y in (-.3, .25):
        p.stroke([(-1, y), (1, y)], .1, a * .8)
    for x in np.linspace(-.85, .85, 5):
        p.polygon([(x - .12, -.7), (x + .12, -.7), (x + .12, .5), (x, .7), (x - .12, .5)], a)


def rake(p, a, b):
    p.stroke([(0, 1), (0, -.5)], .1, b)
    p.stroke([(-.6, -.5), (.6, -.5)], .13, a)
    for x in np.linspace(-.58, .58, 5):
        p.stroke([(x, -.5), (x, -.95)], .1, a)


def trident(p, a, b):
    p.stroke([(0, .95), (0, -1)], .12, b)
    p.stroke([(-.5, .9), (-.45, .3), (.45, .3), (.5, .9)], .14, a)


def sailing_boat(p, a, b):
    p.polygon([(-.9, -.45), (.9, -.45), (.6, -.9), (-.6, -.9)], a)
    p.stroke([(0, -.45), (0, .95)], .08, (40, 60, 90))
    p.polygon([(.06, -.3), (.8, -.3), (.06, .9)], b)
    p.polygon([(-.06, -.3), (-.55, -.3), (-.06, .7)], b * .85)


def rocket(p, a, b):
    p.polygon([(-.3, -.6), (.3, -.6), (.3, .4), (0, 1), (-.3, .4)], a)
    p.polygon([(-.3, -.1), (-.65, -.9), (-.3, -.6)], b)
    p.polygon([(.3, -.1), (.65, -.9), (.3, -.6)], b)
    p.disc(0, .2, .17, b)


def balloon(p, a, b):
    p.disc(0, .3, .68, a, 1.05)
    p.polygon([(-.12, .3), (.12, .3), (.2, -.3), (-.2, -.3)], b)
    p.stroke([(-.25, -.3), (-.18, -.7)], .04, (40, 40, 40))
    p.stroke([(.25, -.3), (.18, -.7)], .04, (40, 40, 40))
    p.polygon([(-.22, -.7), (.22, -.7), (.18, -1), (-.18, -1)], b)


def anchor(p, a, b):
    p.ring(0, .8, .22, .1, a)
    p.stroke([(0, .6), (0, -.9)], .14, a)
    p.stroke([(-.4, .4), (.4, .4)], .13, a)
    p.stroke([(-.75, -.3), (-.5, -.75), (0, -.92), (.5, -.75), (.75, -.3)], .15, a)


def clock(p, a, b):
    p.disc(0, 0, 1., a)
    p.disc(0, 0, .8, (225, 225, 225))
    p.stroke([(0, 0), (0, .6)], .1, (30, 30, 30))
    p.stroke([(0, 0), (.4, -.15)], .1, (30, 30, 30))


def target(p, a, b):
    for radius, color in ((1., a), (.75, b), (.5, a), (.25, b)):
        p.disc(0, 0, radius, color)


def guitar(p, a, b):
    p.stroke([(0, 0), (0, 1)], .13, b)
    p.disc(0, -.6, .42, a)
    p.disc(0, -.12, .31, a)
    p.disc(0, -.45, .15, (30, 30, 30))


def racket(p, a, b):
    p.stroke([(0, -.1), (0, -1)], .15, b)
    for x in (-.25, 0, .25):
        p.stroke([(x, .15), (x, .8)], .04, (200, 200, 200))
    p.ring(0, .45, .52, .14, a)


def glasses(p, a, b):
    p.ring(-.5, 0, .45, .13, a)
    p.ring(.5, 0, .45, .13, a)
    p.stroke([(-.1, .1), (.1, .1)], .1, a)


def dumbbell(p, a, b):
    p.stroke([(-.7, 0), (.7, 0)], .15, b)
    for x in (-.75, .75):
        p.polygon([(x - .2, -.5), (x + .2, -.5), (x + .2, .5), (x - .2, .5)], a)


def cactus(p, a, b):
    p.stroke([(0, -.9), (0, .8)], .36, a)
    p.stroke([(0, -.1), (-.55, 0), (-.55, .5)], .24, a)
    p.stroke([(0, -.3), (.55, -.2), (.55, .25)], .24, a)


def arrow(p, a, b):
    p.stroke([(-.9, 0), (.4, 0)], .3, a)
    p.polygon([(.25, -.5), (1, 0), (.25, .5)], a)


def two_arrows(p, a, b):
    p.stroke([(-.4, 0), (.4, 0)], .26, a)
    p.polygon([(.35, -.5), (1, 0), (.35, .5)], a)
    p.polygon([(-.35, -.5), (-1, 0), (-.35, .5)], a)


def chevron(p, a, b):
    p.polygon([(-.7, .8), (-.1, .8), (.7, 0), (-.1, -.8), (-.7, -.8), (.05, 0)], a)
    p.polygon([(-.95, .8), (-.8, .8), (0, 0), (-.8, -.8), (-.95, -.8), (-.2, 0)], b)


FLAT = dict(
    triangle=polygon_with_border(3), square=polygon_with_border(4), pentagon=polygon_with_border(5),
    hexagon=polygon_with_border(6), star4=star_with_core(4, .35), star5=star_with_core(5, .42),
    star6=star_with_core(6, .5), star9=star_with_core(9, .6),
    letter_a=letter([(-.7, -.8), (0, .8), (.7, -.8)], [(-.35, -.15), (.35, -.15)]),
    letter_e=letter([(.55, .8), (-.5, .8), (-.5, -.8), (.55, -.8)], [(-.5, 0), (.35, 0)]),
    letter_h=letter([(-.55, .8), (-.55, -.8)], [(.55, .8), (.55, -.8)], [(-.55, 0), (.55, 0)]),
    letter_k=letter([(-.5, .8), (-.5, -.8)], [(.55, .8), (-.4, 0), (.55, -.8)]),
    letter_m=letter([(-.75, -.8), (-.7, .8), (0, -.1), (.7, .8), (.75, -.8)]),
    letter_t=letter([(-.7, .8), (.7, .8)], [(0, .8), (0, -.8)]),
    letter_x=letter([(-.6, .8), (.6, -.8)], [(-.6, -.8), (.6, .8)]),
    letter_z=letter([(-.6, .8), (.6, .8), (-.6, -.8), (.6, -.8)]),
    snowman=chain((0, -.5, .5), (0, .2, .36), (0, .72, .24)),
    caterpillar=chain((-.75, -.1, .28), (-.38, .05, .28), (0, -.1, .28), (.38, .05, .28), (.72, .15, .32)),
    grapes=chain((-.4, .4, .28), (.05, .45, .28), (.45, .35, .28), (-.2, 0, .28), (.25, 0, .28), (.02, -.42, .28)),
    dog=beast((-.6, .4, 0, .42), (4, .75, .15), [(.4, .1), (.6, .45)], (.65, .5, .26),
        [(-.7, .1), (-1, .5)], .2),
    giraffe=beast((-.55, .25, -.15, .4), (4, .85, .12), [(.25, 0), (.55, .85)], (.6, .9, .17),
        [(-.65, 0), (-.75, -.4)], .14),
    horse=beast((-.6, .4, .05, .44), (4, 1., .14), [(.4, .15), (.7, .6)], (.75, .65, .2),
        [(-.7, .1), (-.95, -.4)], .15),
    elephant=beast((-.45, .4, .1, .8), (4, 1., .26), [(.4, .2), (.7, .2)], (.75, .25, .34),
        [(-.8, .1), (-.95, -.3)], .1),
    table=table, chair=chair, stool=stool, bed=bed, mug=mug, bottle=bottle, goblet=goblet,
    kettle=kettle, floor_lamp=floor_lamp, umbrella=umbrella, mushroom=mushroom, fir=fir, tent=tent,
    hut=hut, windmill=windmill, tower=tower, fish=fish, bird=bird, snail=snail, butterfly=butterfly,
    gear=gear, flower=flower, snowflake=snowflake, spoked_ring=spoked_ring, heart=heart,
    crescent=crescent, drop=drop, cloud=cloud, key=key, hammer=hammer, spade=spade,
    scissors=scissors, ladder=ladder, fence=fence, rake=rake, trident=trident,
    sailing_boat=sailing_boat, rocket=rocket, balloon=balloon, anchor=anchor, clock=clock,
    target=target, guitar=guitar, racket=racket, glasses=glasses, dumbbell=dumbbell, cactus=cactus,
    arrow=arrow, two_arrows=two_arrows, chevron=chevron)  # yapf: disable


def crate(a, b):
    box = Solid((-.8, .8, .8, 0), (-.8, .8, .8, 1.6), a)
    for face in ('front', 'back', 'left', 'right'):
        for v in (.05, .44, .83):
            box.decal(face, .05, .95, v, v + .12, b)
    return [box], []


def pyramid(a, b):
    return [Solid((-1, 1, 1, 0), (-.1, .1, .1, 1.8), a)], []


def dresser(a, b):
    box = Solid((-1.1, 1.1, .5, 0), (-1.1, 1.1, .5, 1.7), a)
    for face in ('left', 'right'):
        for v in (.06, .37, .68):
            box.decal(face, .06, .94, v, v + .26, b).decal(face, .45, .55, v + .11, v + .16,
                                                           (30, 30, 30))
    return [box], []


def sofa(a, b):
    return [
        Solid((-1.2, 1.2, .5, .15), (-1.2, 1.2, .5, .6), a),
        Solid((-1.2, -.95, .5, .5), (-1.15, -.95, .5, .95), b),
        Solid((.95, 1.2, .5, .5), (.95, 1.15, .5, .95), b),
        Solid((-1., 1., .12, .6), (-1., 1., .1, 1.3), a * .9)
    ], []


def stairs(a, b):
    return [
        Solid((-1 + i * .5, 1, .7, i * .4), (-1 + i * .5, 1, .7, (i + 1) * .4), (a, b)[i % 2])
        for i in range(4)
    ], []


def loudspeaker(a, b):
    box = Solid((-.5, .5, .6, 0), (-.5, .5, .6, 1.9), a)
    for face in ('front', 'back', 'left', 'right'):
        box.decal(face, .2, .8, .08, .5, (30, 30, 30)).decal(face, .3, .7, .6, .85, b)
    return [box], []


def arch(a, b):
    return [
        Solid((-1.1, -.6, .4, 0), (-1.1, -.6, .4, 1.5), a),
        Solid((.6, 1.1, .4, 0), (.6, 1.1, .4, 1.5), a),
        Solid((-1.3, 1.3, .5, 1.5), (-1.2, 1.2, .45, 1.95), b)
    ], []


SOLID = dict(
    crate=crate,
    pyramid=pyramid,
    dresser=dresser,
    sofa=sofa,
    stairs=stairs,
    loudspeaker=loudspeaker,
    arch=arch)
CLASSES = tuple(FLAT) + tuple(SOLID)
assert len(CLASSES) == 80, len(CLASSES)


def draw_shape(name, camera, rng):
    """Return the parts of an object of this class at a random position, and its distance."""
    ahead = np.exp(rng.uniform(np.log(7), np.log(26)))
    right = rng.uniform(-.5, .5) * camera.width * ahead / camera.focal
    a, b = random_color(rng), random_color(rng)
    if name in SOLID:
        size = rng.uniform(.8, 2.)
        solids, wheels = SOLID[name](a, b)
        for solid in solids:
            solid.faces = {
                face: [tuple(size * value for value in point) for point in corners]
                for face, corners in solid.faces.items()
            }
        return draw_solids(camera, right, ahead,
                           rng.uniform(-.9, .9) + rng.choice([0, np.pi]), solids, wheels), ahead
    size = rng.uniform(.6, 1.5) * np.array([rng.uniform(.8, 1.25), 1.])
    turn = rng.normal(0, .2)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    mirror = np.array([rng.choice([-1, 1]) * rng.uniform(.75, 1), 1.])
    up = size[1] * rng.uniform(.95, 1.5)

    def to_pixels(points):
        flat = (points * size) @ rotation.T * mirror
        return camera.project(
            np.stack([right + flat[:, 0], up + flat[:, 1],
                      np.full(len(flat), ahead)], 1))

    parts = Parts(to_pixels)
    FLAT[name](parts, a, b)
    return parts, ahead


def draw_scene(seed, width=512, height=256):
    """Draw a street with objects: image uint8 [H, W, 3] BGR and a list of (class index, visible mask bool [H, W])."""
    rng = np.random.default_rng(seed)
    street = Street(width, height, rng)
    things, boxes = [], []
    for label in rng.integers(0, len(CLASSES), rng.integers(5, 11)):
        for _ in range(12):
            parts, ahead = draw_shape(CLASSES[label], street.camera, rng)
            points = np.concatenate([points for points, _ in parts.polygons])
            (x0, y0), (x1, y1) = points.min(0), points.max(0)
            shown = (min(x1, width) - max(x0, 0)) * (min(y1, height) - max(y0, 0)) / max(
                1, (x1 - x0) * (y1 - y0))
            hidden = [
                max(0,
                    min(x1, b[2]) - max(x0, b[0])) * max(0,
                                                         min(y1, b[3]) - max(y0, b[1])) / min(
                                                             (x1 - x0) * (y1 - y0),
                                                             (b[2] - b[0]) * (b[3] - b[1]))
                for b in boxes
            ]
            if x1 > 0 and y1 > 0 and shown > .7 and max(hidden, default=0) < .25:
                boxes.append((x0, y0, x1, y1))
                things.append((int(label), parts, ahead))
                break
    owner = np.full((height, width), -1, np.int16)
    drawn = []
    for label, parts, ahead in sorted(things, key=lambda thing: -thing[2]):
        outline = street.paint(parts, ahead, light=rng.uniform(.8, 1.15))
        if outline is not None:
            cv2.fillPoly(owner, [outline], len(drawn))
            drawn.append(label)
    return street.canvas.finish(), [(label, owner == i) for i, label in enumerate(drawn)]


def annotate(mask):
    """Return polygons, box and area of a mask as in COCO; None if fewer than 40 pixels are visible."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    polygons = [
        contour[:, 0].reshape(-1).tolist() for contour in contours
        if len(contour) >= 3 and cv2.contourArea(contour) > 4
    ]
    area = int(mask.sum())
    if not polygons or area < 40:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1)
    ]
    return dict(segmentation=polygons, bbox=box, area=area, iscrowd=0)


def _write(arguments):
    root, split, index, seed = arguments
    cv2.setNumThreads(1)
    image, things = draw_scene((seed, 2 if split == 'train' else 3, index))
    name = f'{split}_{index:05d}.png'
    cv2.imwrite(str(Path(root, split, name)), image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    info = dict(id=index, file_name=name, height=image.shape[0], width=image.shape[1])
    return info, [
        dict(found, category_id=label + 1) for label, mask in things for found in [annotate(mask)]
        if found
    ]


def main():
    parser = argparse.ArgumentParser(description='Draw the pretraining set of the sample')
    parser.add_argument('out', help='folder for train, val and annotations')
    parser.add_argument('--train', type=int, default=1600, help='number of training images')
    parser.add_argument('--val', type=int, default=80, help='number of validation images')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=2)
    args = parser.parse_args()
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    for split in ('train', 'val'):
        Path(args.out, split).mkdir(parents=True, exist_ok=True)
        tasks = [(args.out, split, i, args.seed) for i in range(getattr(args, split))]
        images, annotations = [], []
        with ProcessPoolExecutor(args.workers) as pool:
            for info, found in pool.map(_write, tasks, chunksize=8):
                images.append(info)
                annotations += [
                    dict(one, image_id=info['id'], id=len(annotations) + i + 1)
                    for i, one in enumerate(found)
                ]
        path = Path(args.out, 'annotations', f'{split}.json')
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            json.dumps(dict(images=images, annotations=annotations, categories=categories)))
        print(
            f'{len(images)} images and {len(annotations)} objects of {len(categories)} classes in {path}'
        )


if __name__ == '__main__':
    main()
