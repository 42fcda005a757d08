#pragma once
// Procedural phantoms for tests and the quick start: thorax-like pictures with planted findings
// (side, zone, size), a findings text that lists them, an impression that concludes, labels, and
// the box of each finding. Not anatomy.
#include <array>
#include <cmath>
#include <map>

#include "hybridmed/core/philox.hpp"
#include "hybridmed/data/csv.hpp"
#include "hybridmed/data/image.hpp"

namespace hybridmed::data {

struct PhantomOptions {
  std::size_t count = 1000, side = 96;
  std::uint64_t seed = 0;
  double valid = 0.1, test = 0.2;  ///< shares of the held-out splits
  double missing = 0.05;           ///< share of studies that lack one section
};

/// A planted finding; the box is in fractions of the image.
struct PhantomFinding {
  std::string label, text;  // text: the sentence of the findings section
  double x = 0, y = 0, width = 0, height = 0;
};

struct Phantom {
  std::vector<std::uint8_t> pixels;  // (side, side)
  std::vector<PhantomFinding> findings;
  std::string findings_text, impression;
};

inline constexpr std::array<const char*, 5> phantom_labels{"nodule", "opacity", "effusion",
                                                           "cardiomegaly", "normal"};

/// Phantom number `index` of a corpus.
inline Phantom make_phantom(std::size_t side, Philox random) {
  Phantom p;
  std::uint64_t draw = 0;
  const auto uniform = [&](double a, double b) { return a + (b - a) * random.uniform(draw++); };
  const auto pick = [&](std::uint64_t n) { return random.below(draw++, n); };
  const double shift_x = uniform(-0.02, 0.02), shift_y = uniform(-0.02, 0.02),
               brightness = uniform(-0.04, 0.04);
  struct Lung {
    double x, y, rx, ry;
  };
  // The patient's right lung is on the left of the picture, as in radiographs.
  const std::array<Lung, 2> lungs{
      {{0.29 + shift_x, 0.47 + shift_y, 0.15, 0.32}, {0.71 + shift_x, 0.47 + shift_y, 0.14, 0.31}}};
  const std::array<const char*, 2> sides{"right", "left"};
  const std::array<const char*, 3> zones{"upper", "middle", "lower"};
  bool big_heart = false;
  std::vector<std::string> conclusions;
  struct Blob {
    double x, y, rx, ry, tone;
    bool sharp;
  };
  std::vector<Blob> blobs;
  const std::uint64_t kind = pick(10);  // 2 normal, 5 one finding, 3 two findings
  const int planted = kind < 2 ? 0 : kind < 7 ? 1 : 2;
  std::uint64_t previous = 99;
  for (int f = 0; f < planted; ++f) {
    std::uint64_t label = pick(4);
    if (label == previous) label = (label + 1) % 4;
    previous = label;
    const std::uint64_t s = pick(2), zone = pick(3);
    const bool large = pick(2) == 1;
    const Lung& lung = lungs[s];
    const std::string where = std::string(sides[s]) + " " + zones[zone] + " zone",
                      size = large ? "large" : "small";
    if (label == 0 || label == 1) {
      const double r = label == 0 ? (large ? 0.045 : 0.032) : (large ? 0.115 : 0.085);
      const double x = lung.x + uniform(-0.35, 0.35) * lung.rx,
                   y = lung.y + (static_cast<double>(zone) - 1) * 0.55 * lung.ry +
                       uniform(-0.08, 0.08) * lung.ry;
      blobs.push_back({x, y, r, r, label == 0 ? 0.85 : 0.55, label == 0});
      const std::string name = label == 0 ? "nodule" : "opacity";
      p.findings.push_back({name,
                            "there is a " + size +
                                (label == 0 ? " round nodule" : " hazy opacity") + " in the " +
                                where + ".",
                            x - r, y - r, 2 * r, 2 * r});
      conclusions.push_back(where + " " + name);
    } else if (label == 2) {
      const double h = large ? 0.18 : 0.11, y = lung.y + lung.ry - h / 2;
      blobs.push_back({lung.x, y, lung.rx * 1.05, h / 2 * 1.1, 0.80, true});
      p.findings.push_back({"effusion",
                            "the " + std::string(sides[s]) +
                                " costophrenic angle is blunted by a " + size + " effusion.",
                            lung.x - lung.rx, y - h / 2, 2 * lung.rx, h});
      conclusions.push_back(size + " " + sides[s] + " effusion");
    } else {
      big_heart = true;
      p.findings.push_back(
          {"cardiomegaly", "the heart is enlarged.", 0.35 + shift_x, 0.48 + shift_y, 0.38, 0.34});
      conclusions.push_back("cardiomegaly");
    }
  }
  const double heart_rx = big_heart ? 0.19 : 0.105, heart_ry = big_heart ? 0.17 : 0.125;
  p.pixels.resize(side * side);
  for (std::size_t i = 0; i < side; ++i)
    for (std::size_t j = 0; j < side; ++j) {
      const double x = (static_cast<double>(j) + 0.5) / static_cast<double>(side),
                   y = (static_cast<double>(i) + 0.5) / static_cast<double>(side);
      const auto inside = [&](double cx, double cy, double rx, double ry) {
        return 1 - (x - cx) * (x - cx) / (rx * rx) - (y - cy) * (y - cy) / (ry * ry);
      };
      const auto soft = [](double d, double width) { return 1 / (1 + std::exp(-d / width)); };
      double v = 0.62 * soft(inside(0.5 + shift_x, 0.55 + shift_y, 0.47, 0.62), 0.05);
      for (const Lung& l : lungs) v -= 0.40 * soft(inside(l.x, l.y, l.rx, l.ry), 0.08);
      v += 0.16 * soft(inside(0.5 + shift_x, 0.5, 0.05, 0.9), 0.2);  // spine
      v += (0.78 - v) *
           soft(inside(0.54 + shift_x, 0.65 + shift_y, heart_rx, heart_ry), 0.1);  // heart
      v += 0.035 * std::sin(40 * (y + 0.35 * (x - 0.5) * (x - 0.5))) * soft(v - 0.2, 0.05);  // ribs
      for (const Blob& b : blobs) {
        const double d = inside(b.x, b.y, b.rx, b.ry);
        v += (std::max)(0.0, b.tone - v) *
             (b.sharp ? soft(d, 0.12) : std::exp(-1.6 * (std::max)(0.0, 1 - d)));
      }
      const double noise = 0.02 * random.fork(7).normal(i * side + j);
      p.pixels[i * side + j] =
          static_cast<std::uint8_t>(std::clamp(255 * (v + brightness + noise), 0.0, 255.0));
    }
  const auto has = [&](const char* label) {
    return std::any_of(p.findings.begin(), p.findings.end(),
                       [&](const auto& f) { return f.label == label; });
  };
  for (const auto& f : p.findings) p.findings_text += (p.findings_text.empty() ? "" : " ") + f.text;
  std::string clear;
  if (!has("cardiomegaly")) clear += " the heart size is normal.";
  if (!has("nodule") && !has("opacity")) clear += " the lungs are clear.";
  if (!has("effusion")) clear += " there is no effusion.";
  p.findings_text = p.findings_text.empty() ? clear.substr(1) : p.findings_text + clear;
  for (const auto& c : conclusions) p.impression += (p.impression.empty() ? "" : " and ") + c;
  p.impression = p.impression.empty() ? "normal chest." : p.impression + ".";
  return p;
}

/// Writes a corpus in the layout of a data folder, plus boxes.csv (image, label, text, x, y, w, h;
/// fractions of the image).
inline void write_phantoms(const std::filesystem::path& root, const PhantomOptions& o) {
  std::error_code ec;
  std::filesystem::create_directories(root / "images", ec);
  std::filesystem::create_directories(root / "splits", ec);
  if (ec) fail("data", "phantom", root.string() + ": " + ec.message());
  std::string studies =
                  "study_id,split,frontal_images,lateral_images,has_findings,has_impression,"
                  "findings,impression\n",
              images = "image,study_id,view,split,width,height\n";
  std::string labels = "study_id,split,not_indexed", boxes = "image,label,text,x,y,w,h\n";
  for (const char* l : phantom_labels) labels += std::string(",") + l;
  labels += "\n";
  std::map<std::string, std::string> split_ids{{"train", ""}, {"valid", ""}, {"test", ""}};
  for (std::size_t n = 0; n < o.count; ++n) {
    const Philox random = Philox(o.seed, 0x50484e544f4dull).fork(n);
    const Phantom p = make_phantom(o.side, random);
    const double u = (static_cast<double>(n) + 0.5) / static_cast<double>(o.count),
                 lacks = random.fork(8).uniform(0);
    const std::string split = u < 1 - o.valid - o.test ? "train"
                              : u < 1 - o.test         ? "valid"
                                                       : "test";
    const std::string id = "phantom" + std::to_string(n), image = id + ".png";
    const bool f = lacks >= o.missing / 2, i = lacks < o.missing / 2 || lacks >= o.missing;
    write_png(root / "images" / image, p.pixels.data(), o.side, o.side, 1);
    studies += id + "," + split + "," + image + ",," + (f ? "1," : "0,") + (i ? "1," : "0,") +
               csv_field(f ? p.findings_text : "") + "," + csv_field(i ? p.impression : "") + "\n";
    images += image + "," + id + ",frontal," + split + "," + std::to_string(o.side) + "," +
              std::to_string(o.side) + "\n";
    labels += id + "," + split + ",0";
    for (const char* l : phantom_labels) {
      bool has = p.findings.empty() && std::string(l) == "normal";
      for (const auto& finding : p.findings) has = has || finding.label == l;
      labels += has ? ",1" : ",0";
    }
    labels += "\n";
    for (const auto& finding : p.findings) {
      char line[96];
      std::snprintf(line, sizeof line, ",%.4f,%.4f,%.4f,%.4f\n", finding.x, finding.y,
                    finding.width, finding.height);
      boxes += image + "," + finding.label + "," + csv_field(finding.text) + line;
    }
    split_ids[split] += id + "\n";
  }
  io::write_text_atomically(root / "studies.csv", studies);
  io::write_text_atomically(root / "images.csv", images);
  io::write_text_atomically(root / "labels.csv", labels);
  io::write_text_atomically(root / "boxes.csv", boxes);
  for (const auto& [split, ids] : split_ids)
    io::write_text_atomically(root / "splits" / (split + ".txt"), ids);
}

}  // namespace hybridmed::data
