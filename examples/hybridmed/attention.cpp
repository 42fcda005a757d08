// Where the words of a text look in an image: sheets and numbers.
#include <sstream>
#include <xtensor/xnpy.hpp>

#include "hybridmed/picture/overlay.hpp"
#include "run.hpp"
#include "sheets.hpp"

namespace hybridmed::app {

static std::string percent(double share) {
  char text[16];
  std::snprintf(text, sizeof text, "%.0f %%", 100 * share);
  return text;
}

/// The rows of a phantom folder's boxes.csv for this image, which lies in its images/: the box of
/// the sentence asked for; all of them where the text is none of its sentences. A file that is no
/// such table is only noted: it need not belong to this image.
static std::vector<picture::Rectangle> boxes_of(const fs::path& image, const std::string& text) {
  const fs::path table = fs::absolute(image).parent_path().parent_path() / "boxes.csv";
  std::error_code ec;
  std::vector<picture::Rectangle> all, asked;
  if (!fs::is_regular_file(table, ec)) return all;
  try {
    for (const task::BoxRow& row : task::read_boxes(table)) {
      if (row.image != image.filename().string()) continue;
      all.push_back({row.box.x, row.box.y, row.box.width, row.box.height});
      if (row.text == text) asked.push_back(all.back());
    }
  } catch (const Error& e) {
    std::cerr << "note: no boxes are drawn: " << data::printable(e.reason()) << "\n";
    return {};
  }
  return asked.empty() ? all : asked;
}

/// Marks the tenth of the cells that suits the text best, and the best one, among those that lie on
/// the picture.
static void mark_best(picture::Tile& tile, const std::vector<double>& map, int grid) {
  std::vector<int> cells;
  for (int cell = 0; cell < grid * grid; ++cell)
    if (picture::on_picture(tile.crop, grid, cell)) cells.push_back(cell);
  std::sort(cells.begin(), cells.end(), [&](int a, int b) {
    const double x = map[static_cast<std::size_t>(a)], y = map[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  });
  tile.grid = grid;
  tile.outlined.assign(map.size(), false);
  for (std::size_t i = 0; i < (cells.size() + 9) / 10; ++i)
    tile.outlined[static_cast<std::size_t>(cells[i])] = true;
  if (!cells.empty()) tile.marked = cells.front();
}

/// @throws Error where a file that is to be written is the image that is read.
static void need_other_file(const std::string& option, const std::string& file,
                            const std::string& image) {
  std::error_code ec;
  if (fs::exists(file, ec) && fs::equivalent(file, image, ec))
    fail("app", "attention", option + " " + file + ": it is the image itself", "name another file");
}

/// The tokens of a text as they are read; a word that the vocabulary lacks as it is written.
static std::vector<std::string> spelled(const Run& run, const std::string& text) {
  std::vector<std::string> out;
  for (const auto& word : data::basic_tokens(data::clean_text(text, run.cleaning())))
    for (const std::int32_t id : run.vocabulary.encode(word))
      out.push_back(id == run.vocabulary.unk ? word + " (unknown word)" : run.vocabulary.token(id));
  return out;
}

int run_attention(const Common& common, const AttentionOptions& o) {
  for (const auto& [option, file, extension] :
       {std::tuple{"--out", o.out, ".png"}, {"--npy", o.npy, ".npy"}, {"--csv", o.csv, ".csv"}}) {
    if (file.empty()) continue;
    need_other_file(option, file, o.image);
    if (data::detail::lower(fs::path(file).extension().string()) != extension)
      fail("app", "attention",
           std::string(option) + " " + file + ": expected a name that ends in " + extension +
               ": that is what is written");
    if (const auto parent = fs::path(file).parent_path();
        !parent.empty() && !fs::is_directory(parent))
      fail("app", "attention", file + ": " + parent.string() + " is no folder");
  }
  const data::Image radiograph = data::read_image(o.image);
  for (const auto& note : radiograph.notes)
    std::cerr << "note: " << data::printable(o.image) << ": " << note << "\n";
  const Run run = open_run(common, o.run);
  if (!run.system.parts.regions || !run.system.parts.words)
    fail("app", "attention",
         o.run + ": a run of the system " + run.config.system +
             ", which compares no regions with words",
         "hybridmed, gloria and mgca do");
  const auto& m = run.config.model;
  const EncodedTexts text = encode_texts(run, {o.prompt}, "the prompt");
  const auto maps = task::attention_maps(
      run.model->embed_images(run.together({run.prepare(radiograph)})).regions[0], text.words,
      m.gamma1);
  const std::vector<std::string> spellings = spelled(run, o.prompt);
  std::size_t at = 0;  // word_maps asks for the tokens in their order
  const auto words = task::word_maps(maps, text.tokens[0], m.gamma2, [&](std::int32_t id) {
    return at < spellings.size() ? spellings[at++] : run.vocabulary.token(id);
  });
  const int grid = static_cast<int>(m.grid);
  const double cells = static_cast<double>(grid * grid);

  const picture::Tile plain = tile_of(radiograph, run.config.dataset().transform);
  picture::Sheet sheet{
      "\"" + o.prompt + "\"",
      {},
      "attention of a word to a region, in multiples of an even share (1: no preference)",
      {}};
  picture::Tile whole = plain;
  whole.caption =
      "the text as a whole: outlined is the tenth of the picture that suits it best, + the best "
      "place";
  mark_best(whole, maps.text, grid);
  whole.boxes = boxes_of(o.image, o.prompt);
  if (!whole.boxes.empty()) whole.caption += "; green: boxes.csv";
  sheet.tiles.push_back(std::move(whole));
  double left_share = 0;
  std::vector<std::string> left_out;
  std::cout << "row,word,share,cosine,drawn\n0," << data::csv_field(o.prompt) << ",1,,outlined\n";
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto& w = words[i];
    const bool drawn = o.all_words || !task::is_stop_word(w.word);
    std::cout << i + 1 << "," << data::csv_field(w.word) << "," << w.share << "," << w.cosine << ","
              << (drawn ? "yes" : "no") << "\n";
    if (!drawn) {
      left_share += w.share;
      left_out.push_back("'" + w.word + "'");
      continue;
    }
    picture::Tile tile = plain;
    tile.caption = w.word + ": " + percent(w.share) + " of the text's score";
    tile.grid = grid;
    for (const double a : w.map) tile.map.push_back(a * cells);
    sheet.tiles.push_back(std::move(tile));
  }
  sheet.notes.push_back(fs::path(o.image).filename().string() + "; run " + o.run +
                        "; the thin line is what the model sees");
  if (text.cut > 0)
    sheet.notes.push_back("the text is cut to the " + std::to_string(text.tokens[0].size()) +
                          " tokens that the model reads");
  if (!left_out.empty()) {
    std::sort(left_out.begin(), left_out.end());
    left_out.erase(std::unique(left_out.begin(), left_out.end()), left_out.end());
    std::string list;
    for (const auto& w : left_out) list += (list.empty() ? "" : ", ") + w;
    sheet.notes.push_back("not drawn: " + list + ", together " + percent(left_share) +
                          " of the score; --all-words draws them");
  }
  sheet.scale = {1, std::clamp(picture::scale_of(sheet.tiles).high, 2.0,
                               8.0)};  // so that one word of one place does not darken the others
  for (const auto& file : picture::sheet_files(o.out, sheet))
    need_other_file("--out", file, o.image);
  for (const auto& file : picture::draw_sheet(o.out, sheet)) std::cerr << "sheet: " << file << "\n";
  if (!o.csv.empty()) {
    std::ostringstream table;
    table << "word_number,word,grid_row,grid_column,attention\n";
    for (std::size_t i = 0; i < words.size(); ++i)
      for (int cell = 0; cell < grid * grid; ++cell)
        table << i + 1 << "," << data::csv_field(words[i].word) << "," << cell / grid << ","
              << cell % grid << "," << words[i].map[static_cast<std::size_t>(cell)] << "\n";
    io::write_text_atomically(o.csv, table.str());
    std::cerr << "numbers: " << o.csv << ", a row a word and cell of the " << grid << " x " << grid
              << " grid over the crop; each word's attention sums to 1\n";
  }
  if (!o.npy.empty()) {
    auto numbers = xt::xtensor<double, 3>::from_shape(
        {words.size() + 1, static_cast<std::size_t>(grid), static_cast<std::size_t>(grid)});
    std::copy(maps.text.begin(), maps.text.end(), numbers.begin());
    for (std::size_t i = 0; i < words.size(); ++i)
      std::copy(words[i].map.begin(), words[i].map.end(),
                numbers.begin() + static_cast<std::ptrdiff_t>((i + 1) * maps.text.size()));
    io::write_atomically(
        o.npy, [&](const fs::path& temporary) { xt::dump_npy(temporary.string(), numbers); });
    std::cerr << "numbers: " << o.npy << ", (" << words.size() + 1 << ", " << grid << ", " << grid
              << "): row 0 the similarity of each region to the text, then each word's attention, "
                 "which sums to 1\n";
  }
  return 0;
}

}  // namespace hybridmed::app
