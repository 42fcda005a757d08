// expects: hybridmed: an optimizer works on the master scalar of a precision: of a model in
// bfloat16 on float

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/optim/adamw.hpp>

using namespace hybridmed;

#ifdef HYBRIDMED_CONTROL
using T = master_of<bfloat16>;
#else
using T = bfloat16;
#endif
constexpr auto bytes = sizeof(optim::AdamW<T, Reference>);
