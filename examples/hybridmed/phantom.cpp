// Folders of procedural phantoms.
#include <iostream>

#include "commands.hpp"
#include "hybridmed/data/phantom.hpp"

namespace hybridmed::app {

int run_phantom(const Common& common, const PhantomCommand& o) {
  std::error_code ec;
  if (std::filesystem::exists(o.out, ec) && !std::filesystem::is_empty(o.out, ec))
    fail("app", "phantom",
         o.out + ": the folder is not empty, and phantoms would mix with what it holds",
         "name a new one");
  data::PhantomOptions p;
  p.count = o.count;
  p.side = o.side;
  p.seed = common.seed > 0 ? static_cast<std::uint64_t>(common.seed) : 0;
  data::write_phantoms(o.out, p);
  std::cerr << o.count << " phantoms in " << o.out << "\n";
  return 0;
}

}  // namespace hybridmed::app
