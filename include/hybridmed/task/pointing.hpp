#pragma once
// The pointing game: does the sentence of a finding look at the place where the finding is? Places
// come from boxes.csv (phantoms have one).
#include <charconv>
#include <map>
#include <optional>

#include "hybridmed/data/dataset.hpp"
#include "hybridmed/task/attention_map.hpp"
#include "hybridmed/task/figure.hpp"

namespace hybridmed::task {

/// A planted finding of one study, its box in fractions of the model's crop and of the picture.
struct PlantedBox {
  std::size_t study;
  std::string label, text;  // text: its sentence in the report
  double x, y, width, height;
  data::Window picture{};
};

/// A row of a phantom folder's boxes.csv.
struct BoxRow {
  std::string image, label, text;
  data::Window box;      // in fractions of the picture
  std::size_t line = 0;  // in the table
};

/// Where findings stand in pictures: boxes.csv of a data folder.
inline std::filesystem::path boxes_file(const data::DataFolder& folder) {
  return folder.root() / "boxes.csv";
}

namespace detail {
/// A decimal number from 0 to 1.
inline std::optional<double> fraction(const std::string& cell) {
  double x = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), x);
  const bool whole = error == std::errc() && end == cell.data() + cell.size();
  return whole && x >= 0 && x <= 1 ? std::optional(x) : std::nullopt;
}
}  // namespace detail

/// @throws Error naming file and line for a missing column, a box that is not inside its picture,
/// an empty cell, or a box that stands twice.
inline std::vector<BoxRow> read_boxes(const std::filesystem::path& path) {
  const data::Table t = data::read_csv(path);
  const std::size_t image = t.column("image"), label = t.column("label"), text = t.column("text");
  const std::size_t extents[] = {t.column("x"), t.column("y"), t.column("w"), t.column("h")};
  std::vector<BoxRow> out;
  std::map<std::vector<std::string>, std::size_t> seen;  // row -> line
  for (std::size_t r = 0; r < t.rows.size(); ++r) {
    const auto& row = t.rows[r];
    const auto bad = [&](const std::string& why) {
      fail("data", "boxes", path.string() + ", line " + std::to_string(t.lines[r]) + ": " + why);
    };
    std::vector<double> v;
    for (const std::size_t column : extents) {
      const auto x = detail::fraction(row[column]);
      if (!x)
        bad("expected a number from 0 to 1, a fraction of the picture's width or height, got '" +
            row[column] + "'");
      v.push_back(*x);
    }
    const double rounding = 1e-3;  // numbers are written with a few digits
    if (!(v[2] > 0 && v[3] > 0 && v[0] + v[2] <= 1 + rounding && v[1] + v[3] <= 1 + rounding))
      bad("expected a box inside the picture: w and h above 0, x + w and y + h at most 1");
    for (const std::size_t column : {image, label, text})
      if (data::detail::trimmed(row[column]).empty())
        bad("the column '" + t.columns[column] + "' is empty");
    const auto [it, fresh] = seen.emplace(row, t.lines[r]);
    if (!fresh) bad("the same box as in line " + std::to_string(it->second));
    out.push_back({row[image], row[label], row[text], {v[0], v[1], v[2], v[3]}, t.lines[r]});
  }
  return out;
}

/// The rows of boxes.csv; none where there is no such file.
/// @throws Error as read_boxes, or where a sentence has no words after cleaning.
inline std::vector<BoxRow> boxes_of(const data::DataFolder& folder, data::Cleaning cleaning) {
  const auto path = boxes_file(folder);
  std::error_code ec;
  if (!std::filesystem::exists(path, ec)) return {};
  auto rows = read_boxes(path);
  for (const BoxRow& row : rows)
    if (!data::has_words(data::clean_text(row.text, cleaning)))
      fail("data", "boxes",
           path.string() + ", line " + std::to_string(row.line) +
               ": its text has no words after cleaning");
  return rows;
}

/// The boxes of these studies' pictures, mapped to the crop.
inline std::vector<PlantedBox> planted_boxes(const std::vector<BoxRow>& rows,
                                             const data::Dataset& dataset) {
  std::vector<PlantedBox> out;
  std::map<std::string, std::size_t> of;
  for (std::size_t i = 0; i < dataset.size(); ++i)
    if (!dataset.study(i).images.empty()) of[dataset.study(i).images.front()] = i;
  const auto& o = dataset.options().transform;
  const double side = static_cast<double>(o.resize), crop = static_cast<double>(o.image_size),
               offset = static_cast<double>((o.resize - o.image_size) / 2);
  for (const BoxRow& row : rows)
    if (const auto it = of.find(row.image); it != of.end())
      out.push_back({it->second, row.label, row.text, (row.box.x * side - offset) / crop,
                     (row.box.y * side - offset) / crop, row.box.width * side / crop,
                     row.box.height * side / crop, row.box});
  return out;
}

/// The maps of a planted finding's sentence in its own image.
template <class T, class B>
AttentionMaps maps_of(const PlantedBox& box, const std::vector<Tensor<T, B>>& regions, Index grid,
                      const EncodedTexts<T, B>& texts, Index text, double gamma1) {
  const Index n = grid * grid, per_batch = regions[0].rows() / n, i = static_cast<Index>(box.study);
  return attention_maps(
      regions[static_cast<std::size_t>(i / per_batch)].row_slice(i % per_batch * n,
                                                                 (i % per_batch + 1) * n),
      texts.words.row_slice(texts.offsets.data()[text], texts.offsets.data()[text + 1]), gamma1);
}

/// Is the maximum of the map of a finding's sentence inside its box? Text k belongs to box k.
/// Chance: the box's share of the cells.
template <class T, class B>
void pointing_figures(const std::vector<PlantedBox>& boxes,
                      const std::vector<Tensor<T, B>>& regions, Index grid,
                      const EncodedTexts<T, B>& texts, double gamma1, std::vector<Figure>& out) {
  const Index n = grid * grid;
  std::map<std::string, std::pair<std::vector<double>, double>>
      hits;  // label -> hits, summed chance
  for (std::size_t k = 0; k < boxes.size(); ++k) {
    const PlantedBox& box = boxes[k];
    const auto inside = [&](Index cell) {  // the cell's centre lies in the box, or the box is
                                           // smaller than a cell and inside it
      const double size = 1 / static_cast<double>(grid),
                   x = (static_cast<double>(cell % grid) + 0.5) * size,
                   y = (static_cast<double>(cell / grid) + 0.5) * size;
      const double w = (std::max)(box.width, size), h = (std::max)(box.height, size),
                   cx = box.x + box.width / 2, cy = box.y + box.height / 2;
      return std::abs(x - cx) <= w / 2 && std::abs(y - cy) <= h / 2;
    };
    double share = 0;
    for (Index cell = 0; cell < n; ++cell) share += inside(cell);
    const bool hit = inside(static_cast<Index>(
        maps_of(box, regions, grid, texts, static_cast<Index>(k), gamma1).maximum()));
    for (const std::string& name : {box.label, std::string("all")}) {
      hits[name].first.push_back(hit ? 1 : 0);
      hits[name].second += share / static_cast<double>(n);
    }
  }
  for (const auto& [name, h] : hits) {
    double s = 0;
    for (double x : h.first) s += x;
    const auto count = static_cast<double>(h.first.size());
    out.push_back({"pointing game/" + name, s / count, {}, {}, h.first.size(), h.second / count});
  }
}

}  // namespace hybridmed::task
