#pragma once
// Line charts of losses over steps.
#include "hybridmed/picture/canvas.hpp"

namespace hybridmed::picture {

struct Curve {
  std::string name;
  std::vector<double> x, y;
  bool dashed = false;
  int colour = 0;
};

/// One chart per panel, side by side.
struct Panel {
  std::string title;
  std::vector<Curve> curves;
};

/// Round numbers that divide [low, high] into about n parts.
inline std::vector<double> ticks(double low, double high, int n) {
  const double raw = (std::max)((high - low) / n, 1e-12),
               power = std::pow(10, std::floor(std::log10(raw)));
  const double step = raw / power < 1.5   ? power
                      : raw / power < 3.5 ? 2 * power
                      : raw / power < 7.5 ? 5 * power
                                          : 10 * power;
  std::vector<double> out;
  const double first = std::ceil(low / step);
  for (int i = 0; i <= 2 * n; ++i) {  // numbers so large that a step is lost in them end here too
    const double t = (first + i) * step;
    if (!(t <= high + 1e-9 * step)) break;
    if (out.empty() || t > out.back()) out.push_back(t);
  }
  return out;
}

/// `x_label` and `y_label` stand at the axes; the legend stands beside the plot. A curve of one
/// point is drawn as a dot.
inline void draw_curves(const std::string& path, const std::vector<Panel>& panels,
                        const std::string& x_label, const std::string& y_label = "loss") {
  static const std::vector<Colour> palette{{0.12, 0.35, 0.70}, {0.85, 0.37, 0.05},
                                           {0.10, 0.55, 0.30}, {0.60, 0.20, 0.60},
                                           {0.75, 0.10, 0.15}, {0.35, 0.35, 0.35}};
  const double w = 714, h = 380, left = 74, top = 40, right = 204, bottom = 52;
  const Colour grey{0.3, 0.3, 0.3};
  Canvas c(static_cast<int>(w * static_cast<double>(panels.size())), static_cast<int>(h));
  for (std::size_t k = 0; k < panels.size(); ++k) {
    const double x0 = static_cast<double>(k) * w + left, y0 = top, pw = w - left - right,
                 ph = h - top - bottom;
    double x_low = 1e300, x_high = -1e300, y_low = 0, y_high = -1e300;
    for (const Curve& curve : panels[k].curves) {
      if (curve.x.size() != curve.y.size())
        fail("picture", "curves",
             "curve '" + curve.name + "': expected as many y as x = " +
                 std::to_string(curve.x.size()) + ", got " + std::to_string(curve.y.size()));
      for (std::size_t i = 0; i < curve.x.size(); ++i) {
        if (!std::isfinite(curve.y[i]) || !std::isfinite(curve.x[i])) continue;
        x_low = (std::min)(x_low, curve.x[i]);
        x_high = (std::max)(x_high, curve.x[i]);
        y_low = (std::min)(y_low, curve.y[i]);
        y_high = (std::max)(y_high, curve.y[i]);
      }
    }
    c.text(x0, top - 16, panels[k].title, 15);
    if (x_high < x_low) {
      c.text(x0 + pw / 2, y0 + ph / 2, "no data", 13, {0.5, 0.5, 0.5}, 0.5);
      continue;
    }
    const double x_room = (std::max)(1.0, std::abs(x_high) * 1e-9),
                 y_room = (std::max)(1.0, std::abs(y_low) * 1e-9);
    if (x_high == x_low) {
      x_low -= x_room;
      x_high += x_room;
    }
    if (y_high == y_low) y_high = y_low + y_room;
    const auto px = [&](double x) { return x0 + (x - x_low) / (x_high - x_low) * pw; };
    const auto py = [&](double y) {
      return y0 + (y_high * 1.03 - y) / (y_high * 1.03 - y_low) * ph;
    };
    const auto label = [](double t) {
      char s[32];
      std::snprintf(s, sizeof s, "%.6g", std::abs(t) < 1e-12 ? 0.0 : t);
      return std::string(s);
    };
    for (double t : ticks(y_low, y_high, 5)) {
      c.polyline({{x0, py(t)}, {x0 + pw, py(t)}}, {0.88, 0.88, 0.88}, 1);
      c.text(x0 - 6, py(t) + 4, label(t), 11, grey, 1);
    }
    for (double t : ticks(x_low, x_high, 5)) c.text(px(t), y0 + ph + 16, label(t), 11, grey, 0.5);
    c.outline(x0, y0, pw, ph, {0.4, 0.4, 0.4}, 1);
    c.text(x0 + pw / 2, y0 + ph + 38, x_label, 12, grey, 0.5);
    c.text_upwards(x0 - left + 18, y0 + ph / 2, y_label, 12, grey);
    double legend = y0 + 12;
    for (const Curve& curve : panels[k].curves) {
      std::vector<std::pair<double, double>> points;
      for (std::size_t i = 0; i < curve.x.size(); ++i)
        if (std::isfinite(curve.y[i]) && std::isfinite(curve.x[i]))
          points.emplace_back(px(curve.x[i]), py(curve.y[i]));
      const Colour colour = palette[static_cast<std::size_t>(curve.colour) % palette.size()];
      c.polyline(points, colour, 1.6, curve.dashed);
      for (const auto& [x, y] : points)  // validation has a point an epoch: few enough to be seen
        if (points.size() == 1 || (curve.dashed && points.size() <= 60))
          c.dot(x, y, points.size() == 1 ? 4 : 2.5, colour, curve.dashed);
      c.polyline({{x0 + pw + 12, legend - 4}, {x0 + pw + 36, legend - 4}}, colour, 2, curve.dashed);
      c.text(x0 + pw + 42, legend, curve.name, 11);
      legend += 16;
    }
  }
  c.write_png(path);
}

}  // namespace hybridmed::picture
