#pragma once
// A finished (or running) run, opened for use: configuration, vocabulary, and the best weights so far.
#include "hybridmed/train/checkpoint.hpp"
#include "hybridmed/train/run_config.hpp"

namespace hybridmed::train {

/// Weights file of a run: the best of stage 2, else the newest checkpoint, else the best of stage 1.
inline std::filesystem::path weights_of(const std::filesystem::path& run) {
  const auto best = [&](int stage) -> std::filesystem::path {
    const auto file = run / ("best-stage" + std::to_string(stage) + ".json");
    if (!std::filesystem::exists(file)) return {};
    return run / io::get<std::string>(io::read_json(file), "folder", file.string()) / "model.safetensors";
  };
  if (auto p = best(2); !p.empty()) return p;
  if (const auto all = list_checkpoints(run); !all.empty()) return all.back() / "model.safetensors";
  if (auto p = best(1); !p.empty()) return p;
  fail("train", "run", run.string() + ": holds no weights", "train it first with: pretrain --config FILE --run " + run.string());
}

template <class T, class B>
struct TrainedRun {
  using Model = model::HybridMed<T, B, model::AnyEncoder<T, B>>;
  std::filesystem::path folder, weights;
  std::vector<std::string> unused;  // tensors of the weights file that the model has no use for
  RunConfig config;
  data::WordPiece vocabulary;
  Model model;

  explicit TrainedRun(const std::filesystem::path& run)
      : folder(run), weights(weights_of(run)), config(RunConfig::read(run / "config.json")), vocabulary(data::WordPiece::read(run / "vocab.txt")), model(model::make_hybridmed<T, B>(config.model)) {
    if (static_cast<Index>(vocabulary.size()) != config.model.vocab)
      fail("train", "run", run.string() + ": vocab.txt has " + std::to_string(vocabulary.size()) + " tokens, config.json says " + std::to_string(config.model.vocab));
    unused = load_model(weights, model).unexpected;
  }
  data::Cleaning cleaning() const { return data::cleaning_from(config.cleaning); }
  /// Images of one study or file as the model sees them in evaluation: (B, 3, S, S).
  Tensor<T, B> load_images(const std::vector<std::filesystem::path>& paths) const {
    std::vector<xt::xtensor<float, 2>> images;
    for (const auto& path : paths) images.push_back(read_image(path));
    return upload(images);
  }
  /// One image in host memory, cropped and normalised: (S, S). What is odd about the file goes to `notes`, if given.
  xt::xtensor<float, 2> read_image(const std::filesystem::path& path, std::vector<std::string>* notes = nullptr) const {
    const auto o = config.dataset().transform;
    auto image = xt::xtensor<float, 2>::from_shape({o.image_size, o.image_size});
    const data::Image picture = data::read_image(path);
    if (notes)
      for (const auto& note : picture.notes) notes->push_back(path.string() + ": " + note);
    data::crop(data::make_square(picture, o.resize), o, nullptr, {image.data(), image.size()});
    return image;
  }
  Tensor<T, B> upload(const std::vector<xt::xtensor<float, 2>>& images) const {
    const auto side = static_cast<std::size_t>(config.model.image_size);
    auto grey = xt::xtensor<float, 3>::from_shape({images.size(), side, side});
    for (std::size_t i = 0; i < images.size(); ++i) std::copy(images[i].begin(), images[i].end(), grey.data() + i * side * side);
    return data::upload_images<T, B>(grey);
  }
};

}  // namespace hybridmed::train
