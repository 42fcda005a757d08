#pragma once
// What the tables of the readers share.
#include "../bad_input.hpp"

namespace hybridmed::test {

namespace fs = std::filesystem;

inline BadInput with_bytes(const std::string& name, const std::string& file,
                           const std::string& bytes, std::function<void(const fs::path&)> use,
                           std::vector<std::string> patterns) {
  return {name,
          [=](const fs::path& folder) {
            write_bytes(folder / file, bytes);
            return folder / file;
          },
          std::move(use), std::move(patterns)};
}
inline std::string cut(std::string s, std::size_t n) { return s.substr(0, n); }

inline const char* const three_studies =
    "study_id,split,frontal_images,findings,impression\ns1,train,one.png,Clear.,Normal.\ns2,train,"
    "two.png,"
    "Clear.,Normal.\ns3,train,three.png,Clear.,Normal.\n";

}  // namespace hybridmed::test
