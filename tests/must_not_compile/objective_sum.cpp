// expects: hybridmed: a weighted sum has at most 16 terms

#include <hybridmed/objective/generation/impression.hpp>

using namespace hybridmed;

template <std::size_t>
struct Term : objective::Captioning {};

template <std::size_t... i>
auto sum_of(std::index_sequence<i...>) {
  return ((1.0 * Term<i>{}) + ...);
}
#ifdef HYBRIDMED_CONTROL
constexpr std::size_t terms = 16;
#else
constexpr std::size_t terms = 17;
#endif
void f() { static_cast<void>(sum_of(std::make_index_sequence<terms>())); }
