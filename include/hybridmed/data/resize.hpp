#pragma once
// Resizing equal to Pillow's antialiased BILINEAR: two passes with a triangle filter stretched when
// shrinking; 8-bit images in Pillow's fixed point (byte for byte), 16-bit ones in float as Pillow's
// mode F.
#include <algorithm>
#include <cmath>
#include <vector>

#include "hybridmed/data/image.hpp"

namespace hybridmed::data {

namespace detail {

/// Filter of one axis: output o reads inputs [first_o, first_o + weights_o.size()).
struct Filter {
  std::vector<std::size_t> first;
  std::vector<std::vector<double>> weights;

  Filter(std::size_t in, std::size_t out) {
    const double scale = static_cast<double>(in) / static_cast<double>(out),
                 support = (std::max)(scale, 1.0);
    for (std::size_t o = 0; o < out; ++o) {
      const double centre = (static_cast<double>(o) + 0.5) * scale;
      const auto low = static_cast<std::size_t>(
          (std::max)(0.0, std::floor((std::max)(0.0, centre - support + 0.5))));
      const auto high = (std::min)(in, static_cast<std::size_t>(centre + support + 0.5));
      std::vector<double> w;
      double sum = 0;
      for (std::size_t i = low; i < high; ++i) {
        const double x = std::abs((static_cast<double>(i) - centre + 0.5) / support);
        w.push_back(x < 1 ? 1 - x : 0);
        sum += w.back();
      }
      for (double& x : w) x /= sum;
      first.push_back(low);
      weights.push_back(std::move(w));
    }
  }
};

/// One pass along the rows of (lines, in) -> (lines, out).
template <class T>
std::vector<T> filter_rows(const std::vector<T>& x, std::size_t lines, std::size_t in,
                           std::size_t out) {
  if (in == out) return x;
  const Filter f(in, out);
  std::vector<T> y(lines * out);
  for (std::size_t o = 0; o < out; ++o) {
    const auto& w = f.weights[o];
    if constexpr (std::is_same_v<T, std::uint8_t>) {
      constexpr int precision = 22;
      std::vector<int> k;
      for (double v : w) k.push_back(static_cast<int>(v * (1 << precision) + (v < 0 ? -0.5 : 0.5)));
      for (std::size_t l = 0; l < lines; ++l) {
        int s = 1 << (precision - 1);
        for (std::size_t i = 0; i < k.size(); ++i) s += x[l * in + f.first[o] + i] * k[i];
        y[l * out + o] = static_cast<std::uint8_t>(std::clamp(s >> precision, 0, 255));
      }
    } else {
      for (std::size_t l = 0; l < lines; ++l) {
        double s = 0;
        for (std::size_t i = 0; i < w.size(); ++i)
          s += static_cast<double>(x[l * in + f.first[o] + i]) * w[i];
        y[l * out + o] = static_cast<T>(s);
      }
    }
  }
  return y;
}

template <class T>
std::vector<T> transposed(const std::vector<T>& x, std::size_t rows, std::size_t cols) {
  std::vector<T> y(x.size());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c) y[c * rows + r] = x[r * cols + c];
  return y;
}

}  // namespace detail

/// (height, width) -> (new_height, new_width); T is std::uint8_t or float.
template <class T>
std::vector<T> resize_bilinear(const std::vector<T>& x, std::size_t height, std::size_t width,
                               std::size_t new_height, std::size_t new_width) {
  if (height == 0 || width == 0 || new_height == 0 || new_width == 0)
    fail("data", "resize", "an image without pixels");
  if (x.size() != height * width)
    fail("data", "resize",
         "expected " + std::to_string(height) + " x " + std::to_string(width) + " pixels, got " +
             std::to_string(x.size()));
  const auto down = [&](const std::vector<T>& v, std::size_t columns) {
    return detail::transposed(
        detail::filter_rows(detail::transposed(v, height, columns), columns, height, new_height),
        columns, new_height);
  };
  // Pillow 13 goes down the columns first where that shrinks the picture most; the roundings of 8
  // bit show the order.
  const auto gain = static_cast<std::ptrdiff_t>(height) - static_cast<std::ptrdiff_t>(new_height),
             other = static_cast<std::ptrdiff_t>(width) - static_cast<std::ptrdiff_t>(new_width);
  if (gain > 0 && gain > 2 * other)
    return detail::filter_rows(down(x, width), new_height, width, new_width);
  return down(detail::filter_rows(x, height, width, new_width), new_width);
}

}  // namespace hybridmed::data
