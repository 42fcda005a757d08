// Written impressions: captions of images, summaries of findings.
#include "run.hpp"

namespace hybridmed::app {

int run_caption(const ImagesOptions& o) {
  const Run run = open_run(o.run);
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

int run_summarize(const std::string& folder) {
  const Run run = open_run(folder);
  std::size_t number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    bool cut = false;
    ++number;
    const std::string place = "line " + std::to_string(number);
    note_lost({line}, run.cleaning(), place);
    if (line.find('\0') != line.npos)
      std::cerr << "note: " << place << " holds a zero byte: is it text?\n";
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
  return 0;
}

}  // namespace hybridmed::app
