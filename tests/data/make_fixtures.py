"""Makes the files of fixtures/ from synthetic pictures and texts; expectations come from Pillow,
tokenizers and numpy.

python3 make_fixtures.py      needs numpy, pillow, tokenizers
"""
import json
import os
import re
import struct
import zlib

import numpy as np
from PIL import Image
from tokenizers import BertWordPieceTokenizer

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")


def path(name):
    return os.path.join(OUT, name)


def raw(name, a):
    """u32 height, u32 width, then the values, little-endian."""
    with open(path(name), "wb") as f:
        f.write(struct.pack("<II", *a.shape))
        f.write(np.ascontiguousarray(a).astype(a.dtype.newbyteorder("<")).tobytes())


def escape(s):
    s = s.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return s.replace("\r", "\\r").replace("\0", "\\0")


def table(name, rows):
    with open(path(name), "w", encoding="utf-8", newline="\n") as f:
        for row in rows:
            f.write("\t".join(escape(str(x)) for x in row) + "\n")


# ---------------------------------------------------------------- pictures

# x, y, step x, step y
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2))


def write_png(name, samples, depth, colour, palette=None, alphas=None, interlaced=False):
    """samples (h, w, channels) of `depth` bits. Pillow writes neither 16-bit colour nor interlaced
    files, hence this."""
    h, w, _ = samples.shape

    def rows(a):
        out = b""
        for i, r in enumerate(a):
            flat = r.reshape(-1)
            if depth == 16:
                line = flat.astype(">u2").tobytes()
            elif depth == 8:
                line = flat.astype(np.uint8).tobytes()
            else:
                bits = (flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1
                line = np.packbits(bits.reshape(-1).astype(np.uint8)).tobytes()
            step = max(1, depth * a.shape[2] // 8)
            # Every other row with filter 1 (the difference to the pixel on the left).
            if i % 2 and depth >= 8:
                b = np.frombuffer(line, np.uint8).astype(int)
                left = np.concatenate([np.zeros(step, int), b[:-step]])
                line = (b - left).astype(np.uint8).tobytes()
                out += b"\1"
            else:
                out += b"\0"
            out += line
        return out

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    if interlaced:
        passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7]
        data = b"".join(rows(a) for a in passes if a.size)
    else:
        data = rows(samples)
    header = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, int(interlaced))
    with open(path(name), "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
        if palette is not None:
            f.write(chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
        if alphas is not None:
            f.write(chunk(b"tRNS", alphas.astype(np.uint8).tobytes()))
        f.write(chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b""))


def picture(h, w, channels, top, seed):
    """Slopes, an ellipse and noise, 0..top; channels differ."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    out = []
    for c in range(channels):
        slopes = 0.3 + 0.4 * ((c + 1) * x / w + y / h) / (c + 2)
        ellipse = 0.3 * (((x - w * 0.4) / w) ** 2 + ((y - h * 0.6) / h) ** 2 < 0.06)
        out.append(slopes + ellipse + 0.1 * rng.normal(size=(h, w)))
    a = np.clip(np.stack(out, -1), 0, 1)
    return np.rint(a * top).astype(np.int64)


def grey(name):
    """As Pillow sees it, 8 bit."""
    raw(name + ".raw", np.asarray(Image.open(path(name)).convert("L")))


def images():
    h, w = 29, 37
    write_png("grey8.png", picture(h, w, 1, 255, 1), 8, 0)
    write_png("grey8_interlaced.png", picture(h, w, 1, 255, 2), 8, 0, interlaced=True)
    write_png("grey1.png", picture(h, w, 1, 1, 3), 1, 0)
    write_png("grey2.png", picture(h, w, 1, 3, 4), 2, 0)
    write_png("grey4.png", picture(h, w, 1, 15, 5), 4, 0)
    rng = np.random.default_rng(6)
    palette = rng.integers(0, 256, (200, 3))
    write_png("palette8.png", rng.integers(0, 200, (h, w, 1)), 8, 3, palette)
    write_png("palette8_transparent.png", rng.integers(0, 200, (h, w, 1)), 8, 3, palette,
              alphas=rng.integers(0, 256, 150))
    write_png("palette4.png", rng.integers(0, 16, (h, w, 1)), 4, 3, palette[:16])
    write_png("grey_alpha.png", picture(h, w, 2, 255, 7), 8, 4)
    write_png("rgb.png", picture(h, w, 3, 255, 8), 8, 2)
    write_png("rgb_interlaced.png", rng.integers(0, 256, (h, w, 3)), 8, 2, interlaced=True)
    write_png("rgba.png", rng.integers(0, 256, (h, w, 4)), 8, 6)
    write_png("png_named.jpg", picture(h, w, 1, 255, 9), 8, 0)
    write_png("one_pixel.png", np.full((1, 1, 1), 77), 8, 0)
    for name in ("grey8.png", "grey8_interlaced.png", "grey1.png", "grey2.png", "grey4.png",
                 "palette8.png", "palette8_transparent.png", "palette4.png", "grey_alpha.png",
                 "rgb.png", "rgb_interlaced.png", "rgba.png", "png_named.jpg", "one_pixel.png"):
        grey(name)
    g16 = picture(h, w, 1, 65535, 10)
    write_png("grey16.png", g16, 16, 0)
    assert (np.asarray(Image.open(path("grey16.png"))) == g16[..., 0]).all()
    raw("grey16.png.raw", g16[..., 0].astype(np.uint16))
    ga16 = picture(h, w, 2, 65535, 11)
    write_png("grey16_alpha_interlaced.png", ga16, 16, 4, interlaced=True)
    raw("grey16_alpha_interlaced.png.raw", ga16[..., 0].astype(np.uint16))
    c16 = rng.integers(0, 65536, (12, 14, 3))
    c16[:, ::2] = c16[:, ::2, :1]  # every other pixel is grey: its value must come out exactly
    write_png("rgb16.png", c16, 16, 2)
    raw("rgb16.png.raw", np.rint(c16 @ np.array([0.299, 0.587, 0.114])).astype(np.uint16))

    smooth = picture(40, 48, 3, 255, 12).astype(np.uint8)
    Image.fromarray(smooth[..., 0]).save(path("grey.jpg"), quality=90)
    Image.fromarray(smooth).save(path("rgb444.jpg"), quality=90, subsampling=0)
    Image.fromarray(smooth[:37, :43]).save(path("rgb420.jpg"), quality=85, subsampling=2)
    Image.fromarray(smooth).save(path("progressive.jpg"), quality=80, progressive=True)
    Image.fromarray(smooth[..., 1]).save(path("grey_progressive.jpg"), quality=80, progressive=True)
    Image.fromarray(smooth[:9, :9, 2]).save(path("jpeg_named.png"), format="JPEG", quality=90)
    for name in ("grey.jpg", "rgb444.jpg", "rgb420.jpg", "progressive.jpg", "grey_progressive.jpg",
                 "jpeg_named.png"):
        grey(name)
    cmyk = np.concatenate([smooth, smooth[..., :1]], -1)[:8, :8]
    Image.fromarray(cmyk, "CMYK").save(path("cmyk.jpg"), quality=60)


def noise(n):
    """Pseudo-random bytes that the test recomputes: x <- 1664525 x + 1013904223 (mod 2^32), top 16
    bits."""
    out, x = np.empty(n, np.uint16), 12345
    for i in range(n):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        out[i] = x >> 16
    return out


def resizing():
    pairs = [(41, 53, 20, 26), (41, 53, 41, 53), (41, 53, 64, 80), (41, 53, 13, 7),
             (41, 53, 100, 3), (41, 53, 1, 1), (41, 53, 41, 20), (41, 53, 5, 53), (1, 1, 7, 5),
             (1, 9, 4, 4), (9, 1, 4, 4), (1, 9, 1, 3), (2, 2, 5, 5), (2, 3, 1, 1), (3, 3, 2, 2),
             (255, 256, 256, 255), (300, 200, 256, 171), (200, 300, 171, 256), (257, 129, 128, 64),
             (97, 193, 96, 192), (128, 128, 256, 256), (64, 64, 63, 65), (101, 103, 11, 13),
             (10, 10, 101, 103), (500, 20, 50, 200), (20, 500, 200, 50), (7, 1000, 3, 333),
             (333, 3, 1000, 7)]
    rng = np.random.default_rng(13)
    pairs += [tuple(int(x) for x in rng.integers(1, 160, 4)) for _ in range(60)]
    for _ in range(40):  # as radiographs are resized: one ratio for both sides, the long one given
        h, w, side = (int(x) for x in rng.integers(60, 340, 3))
        long = max(h, w)
        nh, nw = ((2 * x * side + long) // (2 * long) for x in (h, w))
        pairs.append((h, w, nh, nw))
    a = noise(120000)
    rows, tall = [], []
    for h, w, nh, nw in pairs:
        im = Image.fromarray((a[:h * w] >> 8).astype(np.uint8).reshape(h, w))
        whole = im.resize((nw, nh), Image.BILINEAR)
        across_first = im.resize((nw, h), Image.BILINEAR).resize((nw, nh), Image.BILINEAR)
        kind = rows if whole.tobytes() == across_first.tobytes() else tall
        kind.append((h, w, nh, nw, zlib.crc32(whole.tobytes())))
    # Pillow 11 always filters across first; Pillow 13 filters down first where that drops more than
    # twice as many rows as columns are dropped. Both passes round, so the order shows.
    table("resize.tsv", rows)
    table("resize_down_first.tsv", tall)
    # Whole outputs, to see how far off a wrong one is.
    sizes = [(23, 31, 12, 16), (23, 31, 30, 40), (31, 23, 5, 23), (1, 7, 6, 3), (40, 30, 31, 23)]
    for i, (h, w, nh, nw) in enumerate(sizes):
        im = Image.fromarray((a[:h * w] >> 8).astype(np.uint8).reshape(h, w))
        raw("resize8_%d_%d_%d.raw" % (i, h, w), np.asarray(im.resize((nw, nh), Image.BILINEAR)))
        im = Image.fromarray((a[:h * w].astype(np.float32) / np.float32(65535)).reshape(h, w))
        assert im.mode == "F"
        raw("resizef_%d_%d_%d.raw" % (i, h, w), np.asarray(im.resize((nw, nh), Image.BILINEAR)))


def transforms():
    """Long side to `side`, zero-padded and centred (the odd row goes below or right, as in GLoRIA),
    centre crop, (x - 0.5) / 0.5."""
    def expected(im, side, size, top):
        w, h = im.size
        nw, nh = (side, h * side // w) if w >= h else (w * side // h, side)
        a = np.zeros((side, side), np.float64)
        y, x = (side - nh) // 2, (side - nw) // 2
        a[y:y + nh, x:x + nw] = np.asarray(im.resize((nw, nh), Image.BILINEAR))
        o = (side - size) // 2
        return ((a[o:o + size, o:o + size] / top - 0.5) / 0.5).astype(np.float32)

    def f(values):
        return Image.fromarray(values.astype(np.float32))

    wide, tall = picture(36, 48, 1, 255, 20)[..., 0], picture(50, 30, 1, 255, 21)[..., 0]
    write_png("wide8.png", wide[..., None], 8, 0)
    raw("wide8.png.32.28.raw", expected(Image.fromarray(wide.astype(np.uint8)), 32, 28, 255))
    write_png("tall8.png", tall[..., None], 8, 0)
    # 24 x 40
    raw("tall8.png.40.35.raw", expected(Image.fromarray(tall.astype(np.uint8)), 40, 35, 255))
    # 32 x 25.08: an odd padding, no crop
    raw("grey8.png.32.32.raw", expected(Image.open(path("grey8.png")), 32, 32, 255))
    # enlarged: 64 x 50.16
    raw("grey8.png.64.56.raw", expected(Image.open(path("grey8.png")), 64, 56, 255))
    tall16 = picture(48, 36, 1, 65535, 22)[..., 0]
    write_png("tall16.png", tall16[..., None], 16, 0)
    raw("tall16.png.32.28.raw", expected(f(tall16), 32, 28, 65535))


# ---------------------------------------------------------------- texts

def clean(text):
    """The reference's cleaning; a text without letter or digit is no text."""
    text = re.sub(r"(?m)^\s*\d+\.\s", " ", text.lower())
    text = re.sub(r"[^a-z0-9.,/%_ -]", " ", text)
    text = re.sub(r"\bx{2,}\b|_+", " ", text)
    text = re.sub(r"\s+", " ", text).strip()
    return text if re.search("[a-z0-9]", text) else ""


TEXTS = ["", " ", "\n", ".", "Cardiomegaly.", "Emphysema.", "Normal chest", "1. Heart size normal.",
         "1. No effusion.\n2. No pneumothorax.", "1. One\n 2. Two\n\t3. Three", "1.Heart", "1.",
         "1. ", "1.\n2. x", "12. Twelve\n13.Thirteen", "a 1. b", "1) Heart",
         "\n\n 4. After blank lines", "1.5 cm nodule", "1. 1.5 cm nodule",
         "Nodule of 3.2 x 4.1 cm.", "XXXX year old", "XXXX", "xx", "x", "x-ray", "XX-ray",
         "xxxx/xxxx", "The XXXX is at T12.", "axxxx xxxxb", "xxx1 1xxx", "____",
         "___ year-old with ___.", "a_b", "_xx_", "xx_xx", "xxxx_", "__xxxx__ and _x_",
         "50% of the lungs, 3/4 views", "T9-T10; T11", "Heart: normal (stable) [old] {x}",
         "a\tb\r\nc", "tabs\t\tand   spaces", " leading and trailing ",
         "Kant\u014d \u00e9panchement", "pati\u00ebnt\u2019s heart", "10\u00b0 rotation",
         "\u2022 bullet\n\u2022 bullet", "em\u2014dash and en\u2013dash", "\u5fc3\u810f normal",
         "\U0001f600 smile", "ALL CAPS TEXT.", "MiXeD CaSe", "a.b.c", "..", "-- / %%", "1,000 mL",
         "No acute disease.\n\nXXXX", "2. second only", "1. A\r\n2. B", "1.\tTab after the number",
         "\x0b3. vertical tab", "\x0c4. form feed", "\x1c5. separator", "nul\0inside", "he\x07llo",
         "page 1.\n2.", "1. 2. 3. x", "0. zero", "007. bond", "no. 1. is", "1 . x", "9.\n\n10. ten",
         "x x xx x", "XXXXs", "xxxx's", "+5 -5 *5", "a@b#c$d^e&f", "\"quoted\" 'text'",
         "~`|<>=?!:;"]
# What only Unicode-aware cleaning gets right: Python's \s and \d are, and so is lower().
TEXTS_UNICODE = ["1.\u00a0No effusion.\n2.\u00a0No pneumothorax.", "\u00a01. Heart",
                 "\u20031. Heart", "1.\u2003Heart", "\uff11. Heart", "\u0661\u0662. Heart",
                 "\u212aidney", "\u0130nfiltrate", "1.\u2028Heart", "1.\x85Heart"]


def texts():
    table("clean.tsv", [(t, clean(t)) for t in TEXTS])
    table("clean_unicode.tsv", [(t, clean(t)) for t in TEXTS_UNICODE])


LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = (["[PAD]", "[BOS]", "[EOS]", "[UNK]"] + [c for c in LETTERS if c != "q"] +
              ["##" + c for c in LETTERS if c not in "qz"] +
              ["the", "heart", "is", "normal", "no", "lungs", "are", "clear", "pleural", "effusion",
               "effusions", "cardio", "##meg", "##aly", "##s", "##ing", "pneumo", "##thorax", "kan",
               "##to", "un", "##able", ".", ",", "-", "/", "%", "(", ")", "'", "!", "?", ":", "$",
               "+", "<", "^", "`", "|", "~", "_", "\u2014", "\u3002", "\u201c", "\u00a1", "\u5fc3",
               "\u810f", "\u65e5", "\u672c", "\u03c3", "##\u03c3", "\u00df", "##\u00df", "\u0438",
               "##\u0438", "\u00f8", "##\u00f8", "\u1112", "##\u1161", "##\u11ab", "\u00b0",
               "##\u00b0", "\u3042", "##\u3044"])
WORDS = ["", " ", "the heart is normal.", "The Heart IS Normal", "Cardiomegaly", "cardiomegalys",
         "no pleural effusions", "pneumothorax, no.", "unable", "unableing", "heartheart",
         "lungs-clear", "x/y 50%", "(stable)", "it's", "a!b?c:d", "$5 + <3 ^`|~ _", "under_score",
         "Kant\u014d", "Kanto\u0304", "KANT\u014c", "\u00c9panchement", "e\u0301e\u0300\u00ea",
         "\u00f1andu", "\u00fcber", "\u00dcBER", "\u00e5ngstr\u00f6m \u212b", "\u5fc3\u810f",
         "the\u5fc3\u810fis", "\u65e5\u672c\u8a9e", "\u65e5\u3002\u672c", "\u3042\u3044", "\ud55c",
         "\u03a3\u03c3\u03c2", "\u03a3", "stra\u00dfe", "STRA\u1e9eE", "\u0439 \u0418", "\u0419",
         "\u00d8 \u00f8", "q", "aqa", "quiz", "az", "za", "zzz", "a" * 100, "a" * 101,
         "the " + "b" * 150 + " heart", "\u00e9" * 100, "e\u0301" * 100, "\u00e9" * 101, "a\0b",
         "a\ufffdb", "he\x07art", "a\x7fb", "a\u200bb", "a\u200db", "a\u00adb", "tab\ttab",
         "a\nb\r\nc", "a\u00a0b", "a\u2003b", "a\u3000b", "a\x0bb", "a\x0cb", "\u2014dash\u2014",
         "\u201cquote\u201d", "\u00a1no!", "10\u00b0", "a\u00b2", "\u2122", "\ufb01", "\u0130s",
         "\u212aan", "\uff21", "\U0001f600", "a\U0001f600b", "\u20ac5", "\u00bd", "\U00020000",
         "\uf900", "[the]", "##s", "#", "a##s", "\u0928\u092e\u0938\u094d\u0924\u0947",
         "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u05e9\u05b8\u05dc\u05d5\u05b9\u05dd",
         "\u0645\u064e", "...", "1.5", "t9-t10", "\u0378a", "\ue000a", "\u01c5", "a\u0345"]
WORDS_SEPARATORS = ["the\u2028heart", "the\u2029heart"]  # white space, though of category Zl and Zp


def tokens():
    with open(path("vocab.txt"), "w", encoding="utf-8", newline="\n") as f:
        f.writelines(t + "\n" for t in dict.fromkeys(VOCABULARY))
    t = BertWordPieceTokenizer(path("vocab.txt"), lowercase=True, strip_accents=True,
                               cls_token="[BOS]", sep_token="[EOS]")
    for name, words in (("wordpiece.tsv", WORDS), ("wordpiece_separators.tsv", WORDS_SEPARATORS)):
        ids = [t.encode(w, add_special_tokens=False).ids for w in words]
        table(name, [(w, " ".join(map(str, i))) for w, i in zip(words, ids)])


# ---------------------------------------------------------------- tensors and scores

def safetensors():
    """Every element type, a scalar and an empty tensor; largest elements first, so that each tensor
    is aligned."""
    f32 = np.array([0.0, -1.5, 3.25, 1e-30, -65504.0, 2.0 ** -149], np.float32)
    bf16 = (np.array([1.0, -2.5, 0.15625], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    f16 = np.array([1.0, -2.5, 2.0 ** -24, 65504.0, np.inf, np.nan, -0.0, 2.0 ** -14], np.float16)
    tensors = [("f64", "F64", np.array([[1.0 / 3, -2e300]])),
               ("i64", "I64", np.array([-(2 ** 53), 7], np.int64)),
               ("f32", "F32", f32.reshape(2, 3)),
               ("i32", "I32", np.array([-2 ** 31, 2 ** 31 - 1], np.int32)),
               ("scalar", "F32", np.array(2.5, np.float32)),
               ("bf16", "BF16", bf16),
               ("f16", "F16", f16),
               ("i16", "I16", np.array([-32768, 32767], np.int16)),
               ("bool", "BOOL", np.array([True, False])),
               ("empty", "F32", np.zeros((0, 3), np.float32)),
               ("i8", "I8", np.array([-128, 127], np.int8)),
               ("u8", "U8", np.array([[0, 255]], np.uint8))]
    header, data = {"__metadata__": {"made by": "numpy", "text": "\u00e9"}}, b""
    for name, kind, a in tensors:
        header[name] = {"dtype": kind, "shape": list(a.shape),
                        "data_offsets": [len(data), len(data) + a.nbytes]}
        data += a.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path("python.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def auroc(score, y):
    order = np.argsort(score, kind="stable")
    rank = np.empty(len(score))
    rank[order] = np.arange(1, len(score) + 1)
    for v in np.unique(score):
        rank[score == v] = rank[score == v].mean()
    return (rank[y == 1].sum() - y.sum() * (y.sum() + 1) / 2) / (y.sum() * (len(y) - y.sum()))


def scores():
    """score*, label*, the reference's AUROC; from no ties to hardly anything but ties."""
    rng, rows = np.random.default_rng(30), []
    for n, levels in ((2, 2), (5, 2), (10, 3), (20, 100000), (40, 4), (60, 8), (100, 2), (64, 1),
                      (33, 100000)):
        s, y = rng.integers(-levels, levels, n) / 8.0, rng.integers(0, 2, n)
        y[:2] = (0, 1)
        rows.append((" ".join(map(repr, map(float, s))), " ".join(map(str, y)),
                     repr(float(auroc(s, y)))))
    table("auroc.tsv", rows)


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    images()
    resizing()
    transforms()
    texts()
    tokens()
    safetensors()
    scores()
    total = sum(os.path.getsize(path(n)) for n in os.listdir(OUT))
    print(len(os.listdir(OUT)), "files,", total, "bytes")
    assert total < 150_000
