#pragma once
// The CPU backend. Two policies: who multiplies matrices (Eigen, or oneDNN where
// HYBRIDMED_WITH_ONEDNN is defined) and who runs tiles (OpenMP, std::thread, serial).
#include "hybridmed/backend/cpu/attention.hpp"
#include "hybridmed/backend/cpu/borrowed.hpp"
#include "hybridmed/backend/cpu/convolution.hpp"
#include "hybridmed/backend/cpu/elementwise.hpp"
#include "hybridmed/backend/cpu/gemm_eigen.hpp"
#include "hybridmed/backend/cpu/local_alignment.hpp"
#include "hybridmed/backend/cpu/losses.hpp"
#include "hybridmed/backend/cpu/norm.hpp"
#include "hybridmed/backend/cpu/rows.hpp"
#include "hybridmed/backend/cpu/token_alignment.hpp"
#include "hybridmed/backend/widened.hpp"
#include "hybridmed/core/host.hpp"
#ifdef HYBRIDMED_WITH_ONEDNN
#include "hybridmed/backend/cpu/gemm_onednn.hpp"
#endif

namespace hybridmed {

namespace cpu {
/// In float and double.
template <class Gemm, class Executor>
struct Kernels : Host,
                 Borrowed,
                 Elementwise<Executor>,
                 Rows<Executor>,
                 Norm<Executor>,
                 Attention<Gemm, Executor>,
                 Convolution<Gemm, Executor>,
                 Losses<Executor>,
                 LocalAlignment<Gemm, Executor>,
                 TokenAlignment<Gemm, Executor> {
  using executor_policy = Executor;

  using Elementwise<Executor>::copy;  // in tiles; the plain loops of Host are hidden
  using Elementwise<Executor>::fill;

  /// c (m, n) = alpha op(a) op(b) + beta c, row-major.
  template <class T>
  static void gemm(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                   const T* b, Index ldb, T beta, T* c, Index ldc) {
    Gemm::template parallel<Executor>(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
};
}  // namespace cpu

template <class Gemm = cpu::EigenGemm, class Executor = executor::Default>
struct Cpu : Widened<cpu::Kernels<Gemm, Executor>> {
  static_assert(cpu::GemmProvider<Gemm, float> && cpu::GemmProvider<Gemm, double>,
                "hybridmed: the matrix-product policy of Cpu<> lacks serial or parallel; see "
                "docs/policies/gemm.md");
  static_assert(executor::Executor<Executor>,
                "hybridmed: the executor policy of Cpu<> lacks threads, set_threads or for_each; "
                "see docs/policies/executor.md");
  static constexpr const char* name = "cpu";
  using gemm_policy = Gemm;

  static int threads() { return Executor::threads(); }
  static void set_threads(int n) { Executor::set_threads(n); }
};

/// The fastest CPU backend that this build has.
#ifdef HYBRIDMED_WITH_ONEDNN
using CpuBackend = Cpu<cpu::OneDnnGemm>;
#else
using CpuBackend = Cpu<>;
#endif

}  // namespace hybridmed
