#pragma once
// The representations that HybridMED's objectives and those of its siblings read. Each covers only
// the samples and positions that its losses use, and says which samples these are.
#include "hybridmed/core/host.hpp"
#include "hybridmed/representation/representations.hpp"

namespace hybridmed::representation {

/// Global vectors of the images of samples with an impression.
struct ImageGlobal {
  static constexpr std::string_view name = "image_global";
  static constexpr unsigned reads = an_image;
  template <Value V>
  struct Of {
    V projected;                         ///< (n, d_e), not normalised
    V encoded;                           ///< (n, C), before the projection
    IndexTensor<backend_of<V>> samples;  ///< (n)
    template <class F>
    void visit(F&& f) {
      f(projected);
      f(encoded);
      f(samples);
    }
  };
};

/// Global vectors of the impressions.
struct ImpressionGlobal {
  static constexpr std::string_view name = "impression_global";
  static constexpr unsigned reads = impression;
  template <Value V>
  struct Of {
    V projected;                         ///< (n, d_e), not normalised
    V encoded;                           ///< (n, d), before the projection
    IndexTensor<backend_of<V>> samples;  ///< (n)
    IndexTensor<backend_of<V>> keys;     ///< (n) equal for equal impressions, or empty
    template <class F>
    void visit(F&& f) {
      f(projected);
      f(encoded);
      f(samples);
      f(keys);
    }
  };
};

/// Region vectors of the images of samples whose findings have words.
struct ImageTokens {
  static constexpr std::string_view name = "image_tokens";
  static constexpr unsigned reads = an_image;
  template <Value V>
  struct Of {
    V regions;                           ///< (m * N, d_e)
    Index images = 0;                    ///< m
    IndexTensor<backend_of<V>> samples;  ///< (m)
    /// Made by a model in bf16: may factors of their products be rounded as that model's are?
    bool half_products = false;
    template <class F>
    void visit(F&& f) {
      f(regions);
      f(images);
      f(samples);
    }
  };
};

/// Projected words of the findings, specials excluded.
struct FindingsTokens {
  static constexpr std::string_view name = "findings_tokens";
  static constexpr unsigned reads = findings;
  template <Value V>
  struct Of {
    V words;                             ///< (words, d_e)
    Tensor<std::int32_t, Host> offsets;  ///< (m + 1), host
    IndexTensor<backend_of<V>> samples;  ///< (m)
    template <class F>
    void visit(F&& f) {
      f(words);
      f(offsets);
      f(samples);
    }
  };
};

/// Logits of the summarization branch, at the impression tokens of samples with both sections.
struct SummarizationLogits {
  static constexpr std::string_view name = "summarization_logits";
  static constexpr unsigned reads = findings | impression;
  template <Value V>
  struct Of {
    V logits;                                    ///< (R_sum targets, V)
    IndexTensor<backend_of<V>> target, samples;  ///< of each
    template <class F>
    void visit(F&& f) {
      f(logits);
      f(target);
      f(samples);
    }
  };
};

/// Logits of the captioning branch, at the impression tokens of samples with an impression.
struct CaptioningLogits {
  static constexpr std::string_view name = "captioning_logits";
  static constexpr unsigned reads = an_image | impression;
  template <Value V>
  struct Of {
    V logits;                                    ///< (R_cap targets, V)
    IndexTensor<backend_of<V>> target, samples;  ///< of each
    IndexTensor<backend_of<V>> with_findings;    ///< places of the R_sum targets among these
    bool all_with_findings = true;               ///< those are all of them
    template <class F>
    void visit(F&& f) {
      f(logits);
      f(target);
      f(samples);
      f(with_findings);
      f(all_with_findings);
    }
  };
};

/// Logits of a frozen teacher, at the targets of SummarizationLogits; no gradient.
struct TeacherLogits {
  static constexpr std::string_view name = "teacher_logits";
  static constexpr unsigned reads = findings | impression;
  template <Value V>
  struct Of {
    tensor_of<V> logits;  ///< (R_sum targets, V)
    template <class F>
    void visit(F&& f) {
      f(logits);
    }
  };
};

/// All of these: what HybridMED's objective reads.
inline constexpr Needs<ImageGlobal, ImpressionGlobal, ImageTokens, FindingsTokens,
                       SummarizationLogits, CaptioningLogits, TeacherLogits>
    everything{};

}  // namespace hybridmed::representation
