#pragma once
// The model of a trained run on one backend.
#include "run.hpp"

namespace hybridmed::app {

template <class B>
class ModelOn : public Model {
 public:
  explicit ModelOn(const std::string& folder) : run_(folder) {}

  const train::OpenedRun& opened() const override { return run_; }
  Embeddings embed_images(const Images& images) const override {
    auto e = task::embed_images<float, B>(run_.model, uploaded(images));
    Embeddings out{std::move(e.image), std::move(e.text), {}};
    for (const auto& regions : e.regions) out.regions.push_back(regions.template on<Host>());
    return out;
  }
  Embeddings embed_dataset(
      const data::Dataset& dataset,
      const std::function<void(std::size_t, std::size_t)>& progress) const override {
    return task::embed_dataset<float, B, Host>(run_.model, dataset,
                                               static_cast<std::size_t>(run_.config.batch),
                                               static_cast<int>(run_.config.workers), progress);
  }
  EncodedTexts encode_texts(const std::vector<std::string>& texts) const override {
    return task::encode_texts<float, B>(run_.model, run_.vocabulary, texts, run_.cleaning())
        .template on<Host>();
  }
  EncodedPrompts encode_prompts(const std::vector<task::LabelPrompts>& prompts) const override {
    const auto encoded =
        task::encode_prompts<float, B>(run_.model, run_.vocabulary, run_.cleaning(), prompts);
    return {encoded.labels, encoded.texts.template on<Host>()};
  }
  task::ZeroShotScores zero_shot(const EncodedPrompts& prompts,
                                 const Embeddings& embeddings) const override {
    const task::EncodedPrompts<float, B> here{prompts.labels, prompts.texts.template on<B>()};
    return task::zero_shot(run_.model, here, embeddings);
  }
  task::Generated caption(const Images& images,
                          const task::GenerateOptions& options) const override {
    return task::caption(run_.model, uploaded(images), options);
  }
  task::Generated summarize(const SectionView& findings,
                            const task::GenerateOptions& options) const override {
    return task::summarize<float, B>(run_.model, findings, options);
  }

 private:
  static Tensor<float, B> uploaded(const Images& grey) {
    return train::upload_images<float, B>(grey);
  }
  train::TrainedRun<float, B> run_;
};

}  // namespace hybridmed::app
