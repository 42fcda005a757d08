#pragma once
// What is odd about a data folder, in sentences: said before a run, by an evaluation and by a
// check, in the same words.
#include <map>
#include <string>
#include <vector>

#include "hybridmed/data/dataset.hpp"

namespace hybridmed::train {

/// "a, b, c, ..." of at most five.
template <class Names>
std::string first_of(const Names& names) {
  std::string s;
  std::size_t n = 0;
  for (const auto& name : names) {
    if (n++ == 5) return s + ", ...";
    s += (s.empty() ? "" : ", ") + data::printable(name.substr(0, 80));
  }
  return s;
}

/// What the cleaning takes from the texts, or cannot read; nothing where it takes nothing. `fixed`:
/// a run's cleaning, which cannot be changed.
inline std::vector<std::string> lost_letters(const std::vector<data::Study>& studies,
                                             data::Cleaning cleaning, bool fixed = false) {
  std::size_t letters = 0, bytes = 0, with_letters = 0, with_bytes = 0;
  for (const auto& s : studies) {
    data::CleaningLoss loss = data::cleaning_loss(s.raw_findings, cleaning);
    loss += data::cleaning_loss(s.raw_impression, cleaning);
    letters += loss.letters;
    bytes += loss.bytes;
    with_letters += loss.letters > 0;
    with_bytes += loss.bytes > 0;
  }
  std::vector<std::string> out;
  if (letters > 0)
    out.push_back(std::to_string(letters) + " letters and digits beyond ASCII in " +
                  std::to_string(with_letters) + " studies are dropped by the cleaning" +
                  (fixed ? " that the run was trained with" : "; cleaning=none keeps them"));
  if (bytes > 0)
    out.push_back(std::to_string(bytes) + " bytes in " + std::to_string(with_bytes) +
                  " studies are no UTF-8 and cannot be read; save the table as UTF-8");
  return out;
}

/// Texts that are longer than the model reads.
inline std::vector<std::string> cut_texts(const data::Dataset& d) {
  std::vector<std::string> out;
  const auto say = [&](std::size_t n, const char* section, const char* key, std::size_t limit) {
    if (n > 0)
      out.push_back(std::string(section) + " of " + std::to_string(n) + " of " +
                    std::to_string(d.size()) + " studies are cut to " + key + " = " +
                    std::to_string(limit) + " tokens");
  };
  say(d.cut_findings(), "findings", "t_findings", d.options().t_findings);
  say(d.cut_impression(), "impressions", "t_impression", d.options().t_impression);
  return out;
}

/// Words that the vocabulary lacks, where they are more than one in a hundred.
inline std::vector<std::string> unknown_words(const data::Dataset& d, std::int32_t unknown) {
  std::size_t all = 0, lacking = 0;
  for (std::size_t i = 0; i < d.size(); ++i)
    for (const auto* ids : {&d.findings(i), &d.impression(i)}) {
      all += ids->size() > 2 ? ids->size() - 2 : 0;
      lacking += static_cast<std::size_t>(std::count(ids->begin(), ids->end(), unknown));
    }
  if (100 * lacking <= all) return {};
  return {std::to_string(100 * lacking / all) +
          " % of the words of these reports are unknown to the vocabulary: the model reads them as "
          "one and the same word"};
}

/// Studies in two splits, a sentence for each pair of splits.
inline std::vector<std::string> leakage(const data::DataFolder& folder) {
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> pairs;
  for (const auto& leak : folder.leaks())
    pairs[std::minmax(leak.first, leak.second)].push_back(leak.study);
  std::vector<std::string> out;
  for (const auto& [splits, studies] : pairs)
    out.push_back(std::to_string(studies.size()) + " studies are in split '" + splits.first +
                  "' and in '" + splits.second + "': " + first_of(studies));
  return out;
}

/// "title   sentence" a line.
inline std::string titled(const std::string& title, const std::vector<std::string>& sentences) {
  std::string out;
  for (const auto& s : sentences)
    out += title + std::string(title.size() < 12 ? 12 - title.size() : 1, ' ') + s + "\n";
  return out;
}

}  // namespace hybridmed::train
