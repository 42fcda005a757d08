#pragma once
// Reliability diagrams: how often a label is there, among what was given a probability.
#include "hybridmed/picture/canvas.hpp"
#include "hybridmed/picture/overlay.hpp"

namespace hybridmed::picture {

/// A series of points (mean probability, share of positives, number).
struct ReliabilityCurve {
  std::string name;
  std::vector<double> predicted, observed;
  std::vector<std::size_t> n;
  Colour colour;
};

/// One diagram per title, four a row; the diagonal is what reliable probabilities have, and a dot's
/// area grows with what it stands for.
struct ReliabilityPanel {
  std::string title;
  std::vector<ReliabilityCurve> curves;
};

inline void draw_reliability(const std::string& path, const std::string& title,
                             const std::vector<ReliabilityPanel>& panels) {
  constexpr double size = 190, gap = 54, head = 72, foot = 60;
  const std::size_t columns = (std::min)(panels.size(), std::size_t{4}),
                    rows = (panels.size() + 3) / 4;
  const double cell = size + foot + 26;
  Canvas c(static_cast<int>(gap + static_cast<double>((std::max)(columns, std::size_t{3})) *
                                      (size + gap)),
           static_cast<int>(head + static_cast<double>(rows) * cell + 24));
  const Colour grey{0.3, 0.3, 0.3};
  double y_title = 8;
  for (const auto& l :
       c.wrapped(title, 13, (std::max)(static_cast<double>(columns), 3.0) * (size + gap)))
    c.text(16, y_title += 17, l, 13);
  double x = 16;
  for (const auto& curve : panels.empty() ? std::vector<ReliabilityCurve>() : panels[0].curves) {
    c.dot(x + 5, 56, 4, curve.colour);
    c.text(x + 14, 60, curve.name, 11);
    x += 34 + c.text_width(curve.name, 11);
  }
  for (std::size_t k = 0; k < panels.size(); ++k) {
    const double x0 = gap + static_cast<double>(k % 4) * (size + gap),
                 y0 = head + 24 + static_cast<double>(k / 4) * cell;
    const auto px = [&](double p) { return x0 + p * size; };
    const auto py = [&](double p) { return y0 + (1 - p) * size; };
    c.text(x0 + size / 2, y0 - 10, panels[k].title, 12, {0.15, 0.15, 0.15}, 0.5);
    for (const double t : {0.0, 0.25, 0.5, 0.75, 1.0}) {
      char text[16];
      std::snprintf(text, sizeof text, "%g", t);
      c.polyline({{px(0), py(t)}, {px(1), py(t)}}, {0.9, 0.9, 0.9}, 1);
      c.text(px(0) - 5, py(t) + 4, text, 10, grey, 1);
      c.text(px(t), py(0) + 14, text, 10, grey, 0.5);
    }
    c.outline(x0, y0, size, size, {0.4, 0.4, 0.4}, 1);
    c.polyline({{px(0), py(0)}, {px(1), py(1)}}, {0.6, 0.6, 0.6}, 1, true);
    c.text(x0 + size / 2, y0 + size + 30, "probability", 11, grey, 0.5);
    c.text_upwards(x0 - 34, y0 + size / 2, "share present", 11, grey);
    for (const auto& curve : panels[k].curves) {
      if (curve.predicted.size() != curve.n.size() || curve.observed.size() != curve.n.size())
        fail("picture", "reliability",
             "curve '" + curve.name + "': expected predicted, observed and n of equal length");
      std::size_t all = 0;
      for (const std::size_t n : curve.n) all += n;
      std::vector<std::pair<double, double>> points;
      for (std::size_t i = 0; i < curve.n.size(); ++i)
        if (curve.n[i] > 0) points.emplace_back(px(curve.predicted[i]), py(curve.observed[i]));
      std::size_t at = 0;
      for (std::size_t i = 0; i < curve.n.size(); ++i)
        if (curve.n[i] > 0) {
          c.dot(points[at].first, points[at].second,
                2 + 7 * std::sqrt(static_cast<double>(curve.n[i]) / static_cast<double>(all)),
                curve.colour);
          ++at;
        }
    }
  }
  c.text(16, head + static_cast<double>(rows) * cell + 12, research_use, 11, {0.6, 0.1, 0.1});
  c.write_png(path);
}

}  // namespace hybridmed::picture
