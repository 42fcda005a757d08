// Any bytes as the configuration of a run; where they start with "--set ", as an override of one
// key.
#include "errors.hpp"
#include "hybridmed/train/run_config.hpp"
#include "target.hpp"

using namespace hybridmed;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const test::ScratchFolder scratch;
  const std::string_view text = fuzz::text_of(data, size);
  fuzz::guarded("", [&] {
    train::RunConfig config;
    if (text.starts_with("--set ")) {
      config.data = "somewhere";
      io::override_key(config, std::string(text.substr(6)));
    } else {
      fuzz::put(scratch.path / "config.json", text);
      config = train::RunConfig::read(scratch.path / "config.json");
    }
    // A run keeps its configuration in its folder and is resumed from there.
    const std::string written = io::to_json(config).dump(2);
    train::RunConfig again;
    io::from_json(io::parse_json(written, "written"), again, "written");
    fuzz::require(io::to_json(again).dump(2) == written, "a written configuration reads back");
    config.validate();
    (void)config.folder;
    (void)config.selection(config.split_train);
    const data::DatasetOptions o = config.dataset();
    fuzz::require(o.transform.image_size > 0 && o.transform.resize >= o.transform.image_size,
                  "a valid configuration leaves room to crop");
    fuzz::require(o.t_findings >= 2 && o.t_impression >= 2,
                  "a valid configuration has room for BOS and EOS");
  });
  return 0;
}
