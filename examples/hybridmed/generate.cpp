// Written impressions: captions of images, summaries of findings.
#include "run.hpp"

namespace hybridmed::app {

int run_caption(const Common& common, const ImagesOptions& o) {
  const Run run = open_run(common, o.run);
  std::vector<std::string> all;
  const int code = in_batches(run, o.images, [&](const auto& paths, const auto& images) {
    const auto texts = caption(run, images);
    for (std::size_t i = 0; i < paths.size(); ++i)
      std::cout << data::printable(paths[i]) << "\t" << texts[i] << "\n";
    all.insert(all.end(), texts.begin(), texts.end());
  });
  std::cout << std::flush;
  const std::string warning = task::collapse_warning(
      "captions", all, most_frequent_impression(run, hashes_of(run, "seen_impressions.txt")));
  if (!warning.empty()) std::cerr << "warning: " << warning << "\n";
  return code;
}

/// Answers one findings text; `number`: its line.
static void summarize_line(const Run& run, const std::string& line, std::size_t number) {
  const std::string place = "standard input, line " + std::to_string(number);
  if (!data::is_utf8(line) || line.find('\0') != line.npos)
    fail("app", "summarize", place + ": it is no UTF-8 text",
         "convert it first, e.g. with: iconv -f UTF-16 -t UTF-8");
  bool cut = false;
  note_lost({line}, run.cleaning(), place);
  const auto ids =
      run.vocabulary.encode_section(data::clean_text(line, run.cleaning()),
                                    static_cast<std::size_t>(run.config.model.t_findings), &cut);
  if (ids.empty())
    std::cerr << "note: " << place << " has no words after cleaning, so its answer is empty\n";
  if (cut)
    std::cerr << "note: " << place << " is cut to t_findings = " << run.config.model.t_findings
              << " tokens\n";
  const std::vector<std::int32_t> offsets{0, static_cast<std::int32_t>(ids.size())};
  std::cout << (ids.empty() ? "" : summarize(run, {ids, offsets})[0]) << "\n" << std::flush;
}

int run_summarize(const Common& common, const std::string& folder) {
  const Run run = open_run(common, folder);
  std::size_t number = 0;
  // Line by line, so that another program can ask and wait for its answer.
  for (std::string read; std::getline(std::cin, read);) {
    if (number == 0 && read.starts_with("\xEF\xBB\xBF")) read.erase(0, 3);
    if (read.ends_with('\r')) read.pop_back();
    for (std::size_t at = 0, end = 0; end != read.npos; at = end + 1) {  // old machines end with \r
      end = read.find('\r', at);
      summarize_line(run, read.substr(at, end == read.npos ? end : end - at), ++number);
    }
  }
  return 0;
}

}  // namespace hybridmed::app
