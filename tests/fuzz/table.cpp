// Any bytes as the tables of a data folder: studies.csv, then optionally labels.csv and
// splits/train.txt, each after its mark.
#include <algorithm>

#include "errors.hpp"
#include "hybridmed/data/studies.hpp"
#include "target.hpp"

namespace {
using namespace hybridmed;
namespace fs = std::filesystem;

constexpr std::string_view labels_mark = "\n--- labels.csv\n",
                           split_mark = "\n--- splits/train.txt\n";
constexpr std::string_view kept =
    "abcdefghijklmnopqrstuvwxyz0123456789.,/%- ";  // by the standard cleaning

/// Cuts what follows `mark` off `text` into a file; no mark, no file.
void cut_off(std::string_view& text, std::string_view mark, const fs::path& path) {
  const auto at = text.find(mark);
  if (at == text.npos) {
    fs::remove(path);
    return;
  }
  fuzz::put(path, text.substr(at + mark.size()));
  text = text.substr(0, at);
}

void check_table(const data::Table& t) {
  fuzz::require(!t.columns.empty() && t.lines.size() == t.rows.size(),
                "a table has columns, and a line number for each row");
  std::string written = "\xEF\xBB\xBF";  // else a name that starts with such a mark would lose it
  const auto write = [&](const std::vector<std::string>& row) {
    fuzz::require(row.size() == t.columns.size(),
                  "each row has as many fields as there are columns");
    for (std::size_t i = 0; i < row.size(); ++i)
      written += (i ? "," : "") + data::csv_field(row[i]);
    written += '\n';
  };
  write(t.columns);
  for (const auto& row : t.rows) write(row);
  const data::Table again = data::parse_csv(written, "written");
  fuzz::require(again.columns == t.columns && again.rows == t.rows, "a written table reads back");
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const test::ScratchFolder scratch;
  static const bool made = fs::create_directory(scratch.path / "splits");
  fuzz::require(made, "the scratch folder can be made");
  std::string_view text = fuzz::text_of(data, size);
  cut_off(text, split_mark, scratch.path / "splits" / "train.txt");
  cut_off(text, labels_mark, scratch.path / "labels.csv");
  fuzz::put(scratch.path / "studies.csv", text);
  const std::string source = scratch.path.string();
  fuzz::guarded(source, [&] {
    const data::DataFolder folder(scratch.path);
    check_table(folder.table());
    using data::Cleaning;
    for (const auto& [split, cleaning] :
         {std::pair{"", Cleaning::standard}, {"", Cleaning::none}, {"train", Cleaning::gloria}})
      fuzz::guarded(source, [&, split = split, cleaning = cleaning] {
        std::vector<data::Rejected> rejected;
        const auto studies = folder.select({split, false, true, cleaning}, &rejected);
        const auto of_rows =
            std::count_if(rejected.begin(), rejected.end(), [](const data::Rejected& r) {
              return r.line > 0;
            });  // the others are ids that only a split lists
        fuzz::require(
            studies.size() + static_cast<std::size_t>(of_rows) <= folder.table().rows.size(),
            "no row counts twice");
        for (const auto& s : studies) {
          const std::string texts = s.findings + s.impression;
          fuzz::require(!s.id.empty() && !s.images.empty() && !texts.empty(),
                        "a selected study has an id, a picture and a text");
          const bool clean =
              cleaning != Cleaning::standard || texts.find_first_not_of(kept) == texts.npos;
          fuzz::require(clean, "a cleaned text holds what the rule keeps");
        }
      });
    fuzz::guarded(source, [&] {
      const auto labels = folder.labels();
      for (const auto& [column, value] : labels.other_columns) labels.at(column);
      for (const auto& [study, values] : labels.of)
        fuzz::require(values.size() == labels.names.size(),
                      "each study has a value for each label");
    });
  });
  return 0;
}
