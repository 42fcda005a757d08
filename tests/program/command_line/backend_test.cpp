// The choice of what computes.
#include "program/program.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE("a backend that is not known, or not built in, is refused as any other wrong option") {
  const Said unknown = run("--backend gpu config batch"), known = run("--backend cpu config batch");
  CHECK(unknown.code == 105);
  CHECK(holds(unknown.err, "gpu not in {cpu,cuda}"));
  CHECK(known.code == 0);
  const Said cuda = run("config batch --backend cuda");
#ifdef HYBRIDMED_PROGRAM_HAS_CUDA
  CHECK(cuda.code == 0);
#else
  CHECK(cuda.code == 105);
  CHECK_MESSAGE(holds(cuda.err, "built without CUDA: install the CUDA Toolkit"), cuda.err);
  CHECK(holds(cuda.err, "-DHYBRIDMED_CUDA=ON"));
#endif
  CHECK(run("config batch --device 0").code != 0);  // of no backend
}
