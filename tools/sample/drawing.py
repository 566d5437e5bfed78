"""Shared parts of both synthetic datasets: a canvas, a street camera, and backgrounds.

Everything is rendered at SCALE times the final size and averaged down, so edges are as soft as a photograph's. Colors
are BGR, lengths meters; a world point is (right, up, ahead) with the camera above (0, 0, 0).
"""
import cv2
import numpy as np

SCALE = 2


class Camera:
    """A pinhole camera on a pole, which projects world points into the picture.

    Args:
        width, height: size of the final picture, pixels.
        horizon: row of the horizon, pixels from the top.
        eye: height of the camera above the road, meters.
    """

    def __init__(self, width, height, horizon, eye):
        self.width, self.height, self.horizon, self.eye = width, height, horizon, eye
        self.focal = 1.1 * width  # as in Cityscapes, 2262 pixels for 2048

    def project(self, points):
        """Project world points [N, 3] to pixels [N, 2] of the final picture; points closer than one
        meter, or behind the camera, are moved to one meter ahead of it."""
        points = np.asarray(points, np.float64)
        ahead = np.maximum(points[:, 2], 1.)
        x = self.width / 2 + self.focal * points[:, 0] / ahead
        y = self.horizon + self.focal * (self.eye - points[:, 1]) / ahead
        return np.stack([x, y], 1)

    def ground(self, right, ahead):
        return self.project([[right, 0., ahead]])[0]


class Parts:
    """An object as colored polygons in painting order, with the mapping of its coordinates to the picture.

    `to_pixels` maps [N, 2] (or [N, 3]) of the object's coordinates to pixels of the final picture.
    """

    def __init__(self, to_pixels):
        self.to_pixels = to_pixels
        self.polygons = []

    def polygon(self, points, color, transform=None):
        self.polygons.append(((transform or self.to_pixels)(np.asarray(points, np.float64)), color))

    def disc(self, x, y, radius, color, stretch=1., transform=None):
        angle = np.linspace(0, 2 * np.pi, 25)[:-1]
        points = np.stack([x + radius * np.cos(angle), y + radius * stretch * np.sin(angle)], 1)
        self.polygon(points, color, transform)

    def ring(self, x, y, radius, thickness, color):
        """Add a ring of 24 short strokes, so that the background shows through its middle."""
        angle = np.linspace(0, 2 * np.pi, 25)
        points = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)
        inner = np.stack(
            [x + (radius - thickness) * np.cos(angle), y + (radius - thickness) * np.sin(angle)], 1)
        for i in range(24):
            self.polygon([points[i], points[i + 1], inner[i + 1], inner[i]], color)

    def stroke(self, points, thickness, color):
        """Add a line through `points` of a given thickness, with round joints."""
        points = np.asarray(points, np.float64)
        for p, q in zip(points[:-1], points[1:]):
            along = (q - p) / (np.linalg.norm(q - p) + 1e-9)
            side = np.array([-along[1], along[0]]) * thickness / 2
            self.polygon([p + side, q + side, q - side, p - side], color)
        for p in points:
            self.disc(p[0], p[1], thickness / 2, color)


class Canvas:
    """A picture in progress, SCALE times the final size."""

    def __init__(self, width, height, rng):
        self.width, self.height, self.rng = width, height, rng
        self.image = np.zeros((height * SCALE, width * SCALE, 3), np.uint8)

    def fill(self, points, color):
        """Fill a polygon with one color; points in pixels of the final picture."""
        cv2.fillPoly(self.image, [fixed_point(points)], color_of(color), cv2.LINE_8, FIXED_BITS)

    def line(self, p, q, thickness, color):
        """Draw a line of one color; points and thickness in pixels of the final picture."""
        p, q = (np.asarray(p) * SCALE).round().astype(int), (np.asarray(q) *
                                                             SCALE).round().astype(int)
        cv2.line(self.image, tuple(map(int, p)), tuple(map(int, q)), color_of(color),
                 max(1, round(thickness * SCALE)))

    def ellipse_shadow(self, center, radius_x, radius_y, strength):
        """Darken the ground below an object."""
        x, y = np.asarray(center) * SCALE
        radius_x, radius_y = max(2, int(radius_x * SCALE)), max(2, int(radius_y * SCALE))
        x0, x1 = max(0, int(x - radius_x)), min(self.image.shape[1], int(x + radius_x))
        y0, y1 = max(0, int(y - radius_y)), min(self.image.shape[0], int(y + radius_y))
        if x1 <= x0 or y1 <= y0:
            return
        rows, columns = np.mgrid[y0:y1, x0:x1]
        inside = ((columns - x) / radius_x)**2 + ((rows - y) / radius_y)**2
        factor = 1 - strength * np.clip(1.3 - inside, 0, 1)[..., None]
        self.image[y0:y1, x0:x1] = self.image[y0:y1, x0:x1] * factor

    def paint(self, parts, light=1., haze=0., haze_color=(200, 200, 200), grain=6.):
        """Paint an object with soft light from above and some texture, and return its outline.

        Args:
            parts: Parts.
            light: brightness at its center; 1 keeps the colors.
            haze: 0..1, share of `haze_color` mixed in for distance.
            grain: standard deviation of its surface texture, gray levels.

        Returns:
            int32 [N, 2], outer contour of the union of its parts in pixels of the final picture, or None if it is
            outside the picture.
        """
        stacked = np.concatenate([points for points, _ in parts.polygons]) * SCALE
        rows, columns = self.image.shape[:2]
        x0, y0 = np.floor(stacked.min(0)).astype(int) - 2
        x1, y1 = np.ceil(stacked.max(0)).astype(int) + 3
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, columns), min(y1, rows)
        if x1 - x0 < 4 or y1 - y0 < 4:
            return None
        patch = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
        mask = np.zeros(patch.shape[:2], np.uint8)
        origin = np.array([x0, y0]) / SCALE
        for points, color in parts.polygons:
            corners = [fixed_point(points - origin)]
            cv2.fillPoly(patch, corners, color_of(color), cv2.LINE_8, FIXED_BITS)
            cv2.fillPoly(mask, corners, 1, cv2.LINE_8, FIXED_BITS)
        height, width = mask.shape
        slope_y, slope_x = self.rng.uniform(-.25, .05), self.rng.uniform(-.15, .15)
        shade = (
            light + slope_y * np.linspace(-.5, .5, height)[:, None] +
            slope_x * np.linspace(-.5, .5, width)[None])
        texture = grain * smooth_noise(self.rng, height, width, 6)
        surface = patch * shade[..., None] + texture[..., None]
        surface = surface * (1 - haze) + np.asarray(haze_color, np.float64) * haze
        inside = mask[..., None].astype(bool)
        region = self.image[y0:y1, x0:x1]
        region[...] = np.where(inside, np.clip(surface, 0, 255), region)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        contour = max(contours, key=cv2.contourArea, default=None)
        if contour is None:  # entirely outside the picture
            return None
        contour = cv2.approxPolyDP(contour, 1., True)[:, 0]
        if len(contour) < 3:
            return None
        outline = (contour + [x0, y0]) / SCALE
        return np.clip(outline.round(), 0, [self.width - 1, self.height - 1]).astype(np.int32)

    def finish(self):
        """Return the final picture with camera blur, tint and noise: uint8 [height, width, 3], BGR."""
        rng = self.rng
        image = cv2.resize(
            self.image, (self.width, self.height), interpolation=cv2.INTER_AREA).astype(np.float64)
        if rng.random() < .4:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(.3, .7))
        tint = 1 + rng.uniform(-.07, .07, 3)
        image = (image - 110) * rng.uniform(.8, 1.1) + 110
        image = image * tint * rng.uniform(.8, 1.25)
        image += rng.normal(0, rng.uniform(1.5, 5), image.shape)
        return np.clip(image, 0, 255).astype(np.uint8)


FIXED_BITS = 4


def fixed_point(points):
    """Convert pixels of the final picture to OpenCV's fixed-point corners with FIXED_BITS bits, at SCALE."""
    return np.clip(np.asarray(points) * (SCALE << FIXED_BITS), -2**20,
                   2**20).round().astype(np.int32)


def color_of(color):
    return tuple(float(np.clip(value, 0, 255)) for value in color)


def smooth_noise(rng, height, width, cell):
    """Sample smooth noise of unit strength with spots of about `cell` pixels, [height, width]."""
    coarse = rng.normal(0, 1, (height // cell + 2, width // cell + 2))
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def random_color(rng, low=30, high=225, gray=.35):
    """Sample a color for paint or cloth; with probability `gray` it has little hue, as on a street."""
    if rng.random() < gray:
        return np.full(3, rng.uniform(low, high)) + rng.uniform(-8, 8, 3)
    hsv = np.uint8(
        [[[rng.integers(0, 180),
           rng.integers(70, 240),
           rng.integers(max(low, 60), high)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float64)


class Street:
    """An empty street: sky, houses, trees, pavement, road and street furniture.

    `regions` collects (Cityscapes label, outline) of everything, from far to near.
    """

    def __init__(self, width, height, rng):
        self.rng = rng
        self.canvas = Canvas(width, height, rng)
        self.camera = Camera(width, height, height * rng.uniform(.34, .46), rng.uniform(1.7, 2.6))
        self.regions = []
        self.haze_color = rng.uniform(170, 225) + rng.uniform(-12, 12, 3)
        self.haze = rng.uniform(0, .5)  # at 60 m
        self.light = rng.uniform(.75, 1.1)
        self._sky()
        self._houses()
        self._ground()
        self._furniture()

    def haze_at(self, ahead):
        return min(.7, self.haze * ahead / 60)

    def paint(self, parts, ahead, **how):
        return self.canvas.paint(parts, self.light * how.pop('light', 1.), self.haze_at(ahead),
                                 self.haze_color, **how)

    def _sky(self):
        canvas, rng = self.canvas, self.rng
        rows = int(self.camera.horizon * SCALE) + 2
        top, low = self.haze_color * rng.uniform(.75, 1.05) + [
            rng.uniform(0, 40), 0, -rng.uniform(0, 30)
        ], self.haze_color
        mix = np.linspace(0, 1, rows)[:, None, None]
        sky = top * (1 - mix) + low * mix
        clouds = np.maximum(0, smooth_noise(rng, rows, canvas.image.shape[1], 90)) * rng.uniform(
            0, 22)
        canvas.image[:rows] = np.clip(sky + clouds[..., None], 0, 255)
        width, horizon = canvas.width - 1, int(self.camera.horizon)
        self.regions.append(
            ('sky', np.array([[0, 0], [width, 0], [width, horizon], [0, horizon]], np.int32)))

    def _houses(self):
        rng, camera = self.rng, self.camera
        x = -rng.uniform(0, 60)
        while x < camera.width:
            wide = rng.uniform(35, 130)
            if rng.random() < .16:  # a gap between houses
                x += wide * .4
                continue
            top = camera.horizon - rng.uniform(.25, 1.1) * camera.horizon
            base = camera.horizon + rng.uniform(2, 8)
            self._house(x, x + wide, top, base)
            x += wide
        for _ in range(rng.integers(0, 5)):
            self._tree(
                rng.uniform(0, camera.width), camera.horizon + rng.uniform(2, 9),
                rng.uniform(30, 90))

    def _house(self, left, right, top, base):
        rng = self.rng
        parts = Parts(lambda points: points)
        wall = random_color(rng, 60, 200, .75)
        parts.polygon([[left, top], [right, top], [right, base], [left, base]], wall)
        columns, rows = max(1, int(
            (right - left) / rng.uniform(9, 18))), max(1, int((base - top) / rng.uniform(11, 20)))
        glass = wall * rng.uniform(.3, .7) if rng.random() < .8 else wall * 1.3
        step_x, step_y = (right - left) / columns, (base - top) / rows
        fill_x, fill_y = rng.uniform(.4, .8), rng.uniform(.45, .75)
        for row in range(rows):
            for column in range(columns):
                x, y = left + (column + .5) * step_x, top + (row + .5) * step_y
                dx, dy = step_x * fill_x / 2, step_y * fill_y / 2
                parts.polygon(
                    [[x - dx, y - dy], [x + dx, y - dy], [x + dx, y + dy], [x - dx, y + dy]],
                    glass * rng.uniform(.8, 1.2))
        outline = self.paint(parts, 45)
        if outline is not None:
            self.regions.append(('building', outline))

    def _tree(self, x, base, tall):
        rng = self.rng
        parts = Parts(lambda points: points)
        green = np.array([rng.uniform(20, 70), rng.uniform(60, 130), rng.uniform(30, 90)])
        parts.polygon([[x - tall * .04, base - tall * .5], [x + tall * .04, base - tall * .5],
                       [x + tall * .05, base], [x - tall * .05, base]], green * .5)
        for _ in range(14):
            parts.disc(x + rng.normal(0, tall * .17), base - tall * .65 + rng.normal(0, tall * .14),
                       tall * rng.uniform(.1, .2), green * rng.uniform(.7, 1.25))
        outline = self.paint(parts, 35, grain=14)
        if outline is not None:
            self.regions.append(('vegetation', outline))

    def _ground(self):
        canvas, rng, camera = self.canvas, self.rng, self.camera
        rows = canvas.image.shape[0] - int(camera.horizon * SCALE)
        pavement = np.full(3, rng.uniform(95, 175)) + rng.uniform(-12, 12, 3)
        road = np.full(3, rng.uniform(55, 130)) + rng.uniform(-6, 6, 3)
        canvas.image[-rows:] = pavement
        self.half_road = rng.uniform(4.5, 9.)
        self.road_center = rng.uniform(-2.5, 2.5)
        far, near = 200., camera.focal * camera.eye / (camera.height - camera.horizon) * .9

        def strip(left, right, start=near, stop=far):
            world = [[left, 0, start], [left, 0, stop], [right, 0, stop], [right, 0, start]]
            return camera.project(world)

        left, right = self.road_center - self.half_road, self.road_center + self.half_road
        canvas.fill(strip(left - .25, right + .25), pavement * .75)  # the curb
        canvas.fill(strip(left, right), road)
        paint = np.full(3, rng.uniform(165, 225))
        if rng.random() < .8:
            dash, gap = rng.uniform(2, 4), rng.uniform(2, 6)
            start = near
            while start < 90:
                canvas.fill(
                    strip(self.road_center - .08, self.road_center + .08, start, start + dash),
                    paint)
                start += dash + gap
        if rng.random() < .25:  # a zebra crossing
            ahead = rng.uniform(near + 3, 25)
            for x in np.arange(left + .5, right - .5, 1.):
                canvas.fill(strip(x, x + .5, ahead, ahead + 2.5), paint)
        bumps = smooth_noise(rng, rows, canvas.image.shape[1], 7) * rng.uniform(2, 6)
        bumps += smooth_noise(rng, rows, canvas.image.shape[1], 80) * rng.uniform(0, 9)
        canvas.image[-rows:] = np.clip(canvas.image[-rows:] * self.light + bumps[..., None], 0, 255)
        if rng.random() < .4:  # the shade of houses
            ahead = rng.uniform(8, 30)
            shade = np.zeros(canvas.image.shape[:2], np.uint8)
            cv2.fillPoly(shade, [fixed_point(strip(-60, 60 * rng.uniform(.2, 1.), ahead, 60))], 1,
                         cv2.LINE_8, FIXED_BITS)
            canvas.image[shade > 0] = canvas.image[shade > 0] * .75
        edge = camera.height - 1
        whole = [[0, camera.horizon], [camera.width - 1, camera.horizon], [camera.width - 1, edge],
                 [0, edge]]
        self.regions.append(('sidewalk', np.int32(whole)))
        self.regions.append(('road', strip(left, right).round().clip(-4000, 4000).astype(np.int32)))

    def _furniture(self):
        """Draw poles, signs, bins and boxes: objects of no class that is detected."""
        rng, camera = self.rng, self.camera
        for ahead in sorted(rng.uniform(9, 45, rng.integers(1, 6)))[::-1]:
            side = rng.choice([-1, 1])
            right = self.road_center + side * (self.half_road + rng.uniform(.6, 3))
            x, y = camera.ground(right, ahead)
            meter = camera.focal / ahead
            parts = Parts(lambda points, x=x, y=y, meter=meter: np.stack(
                [x + points[:, 0] * meter, y - points[:, 1] * meter], 1))
            kind = rng.integers(0, 4)
            gray = np.full(3, rng.uniform(50, 160))
            if kind == 0:  # a lamp
                parts.polygon([[-.08, 0], [.08, 0], [.05, 6], [-.05, 6]], gray)
                parts.polygon([[-.05, 6], [-side * 1.4, 6.2], [-side * 1.4, 6.05], [.05, 5.8]],
                              gray)
                label = 'pole'
            elif kind == 1:  # a sign
                parts.polygon([[-.05, 0], [.05, 0], [.05, 2.6], [-.05, 2.6]], gray)
                color = random_color(rng, 90, 240, .1)
                if rng.random() < .5:
                    parts.disc(0, 2.5, .38, color)
                    parts.disc(0, 2.5, .26, (225, 225, 225))
                else:
                    parts.polygon([[-.45, 2.2], [.45, 2.2], [0, 3.]], color)
                label = 'traffic sign'
            elif kind == 2:  # a bin
                parts.polygon([[-.3, 0], [.3, 0], [.36, 1.], [-.36, 1.]], random_color(rng))
                parts.polygon([[-.4, 1.], [.4, 1.], [.3, 1.15], [-.3, 1.15]], gray)
                label = 'static'
            else:  # a box or an advertisement
                color = random_color(rng)
                parts.polygon([[-.7, .3], [.7, .3], [.7, 2.2], [-.7, 2.2]], gray)
                parts.polygon([[-.6, .4], [.6, .4], [.6, 2.1], [-.6, 2.1]], color)
                parts.disc(
                    rng.uniform(-.2, .2), rng.uniform(1., 1.6), rng.uniform(.2, .4),
                    random_color(rng))
                parts.polygon([[-.6, 0], [-.5, 0], [-.5, .3], [-.6, .3]], gray)
                parts.polygon([[.6, 0], [.5, 0], [.5, .3], [.6, .3]], gray)
                label = 'static'
            outline = self.paint(parts, ahead)
            if outline is not None:
                self.regions.append((label, outline))
