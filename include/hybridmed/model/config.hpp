#pragma once
// Configuration of HybridMED. Keys, defaults and named presets are those of the PyTorch reference
// (tests/reference).
#include <array>
#include <cmath>
#include <string>
#include <string_view>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/core/key.hpp"
#include "hybridmed/model/part_configs.hpp"

namespace hybridmed::model {

struct Config {
  std::string name = "vit-b16";
  // image encoder
  std::string encoder = "vit";  // vit | swin | resnet
  Index image_size = 224, patch = 16;
  Index image_width = 768;  // ViT width; Swin embedding width C (levels C..8C); ResNet stem width w
  std::string resnet_block = "basic";  // basic (levels w..8w) | bottleneck (4w..32w)
  std::array<Index, 4> resnet_depths{2, 2, 2, 2};
  Index resnet_stem = 7;   // 7: 7x7 stride 2 and max-pool (patch 4) | 3: 3x3 stride 2 (patch 2)
  Index image_depth = 12;  // ViT blocks, a multiple of 4
  Index image_heads = 12;  // ViT heads
  std::array<Index, 4> swin_depths{2, 2, 6, 2}, swin_heads{3, 6, 12, 24};
  Index window = 7, image_mlp_ratio = 4;
  double image_ln_eps = 1e-6;
  // aggregation and joint space
  Index grid = 14, d_a = 512, d_e = 512;
  // text encoder and decoder
  Index d = 768, heads = 12, uni_blocks = 6, dec_blocks = 6, mlp_ratio = 4, vocab = 30522,
        t_findings = 160, t_impression = 64;
  double ln_eps = 1e-5;
  Index pad = 0, bos = 1, eos = 2;
  // objectives
  double lambda_cg = 1, lambda_cl = 1, lambda_sum = 1, lambda_cap = 1, lambda_dis = 1;
  double lambda_siglip = 1, lambda_token = 1, lambda_prototype = 1;
  Index prototypes = 500;
  double label_smoothing_cg = 0, label_smoothing_gen = 0;
  bool dedup_targets = false;
  std::string local_agg = "mean";  // mean | sum | max
  double gamma1 = 4, gamma2 = 5, gamma3 = 10, tau_d = 1;
  double log_scale_init = 2.6592600369327779,
         log_scale_max = 4.6051701859880918;  // ln(1 / 0.07), ln 100

  VitConfig vit() const {
    return {image_size,  patch,           image_width, image_depth,
            image_heads, image_mlp_ratio, image_ln_eps};
  }
  SwinConfig swin() const {
    return {image_size, patch,  image_width,     swin_depths,
            swin_heads, window, image_mlp_ratio, image_ln_eps};
  }
  ResNetConfig resnet() const {
    return {image_size,
            image_width,
            resnet_block == "bottleneck" ? ResNetBlock::bottleneck : ResNetBlock::basic,
            resnet_depths,
            resnet_stem,
            image_ln_eps};
  }
  TextConfig text() const { return {vocab, positions(), d, uni_blocks, heads, mlp_ratio, ln_eps}; }
  DecoderConfig decoder() const { return {vocab, d, dec_blocks, heads, mlp_ratio, ln_eps}; }
  AggregatorConfig aggregator() const { return {grid, d_a, d_e, ln_eps}; }
  /// Of the image encoder that the configuration names.
  LevelShapes levels() const {
    if (encoder == "vit") return vit().levels();
    if (encoder == "swin") return swin().levels();
    return resnet().levels();
  }
  /// Is the image encoder the same, whatever the keys say that it does not read?
  bool same_image_encoder(const Config& o) const {
    if (encoder != o.encoder) return false;
    return encoder == "vit"    ? vit() == o.vit()
           : encoder == "swin" ? swin() == o.swin()
                               : resnet() == o.resnet();
  }
  Index positions() const { return t_findings > t_impression ? t_findings : t_impression; }
  LocalAggregation aggregation() const {
    return local_agg == "sum"   ? LocalAggregation::sum
           : local_agg == "max" ? LocalAggregation::max
                                : LocalAggregation::mean;
  }

  /// Parts of the keys.
  static constexpr std::string_view objectives = "Objectives", image_encoder = "Image encoder";

  /// Calls f(Key, field) for every key, in declaration order.
  template <class F>
  void visit(F&& f) {
    constexpr Range size = between(1, 65536), blocks = between(1, 128), weight = between(0, 1e6);
    constexpr Range norm = between(1e-15, 0.1), peak = between(1e-6, 1e4);
    constexpr Keys image{image_encoder};
    f(image("name", anything(), "what the configuration calls itself; a preset's own name"), name);
    f(image("encoder", one_of("vit|swin|resnet"), "architecture of the image encoder"), encoder);
    f(image("image_size", size, "side of the square that an image is cropped to, in pixels"),
      image_size);
    f(image("patch", size, "side of a patch, in pixels; of ResNet: 4, or 2 with the small stem"),
      patch);
    f(image("image_width", size,
            "features of a ViT token, of Swin's first level, or of ResNet's stem"),
      image_width);
    f(image("resnet_block", one_of("basic|bottleneck"),
            "two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the width"),
      resnet_block);
    f(image("resnet_depths", between(1, 64), "blocks of each of the four levels"), resnet_depths);
    f(image("resnet_stem", between(3, 7), "7: 7x7, stride 2, and max-pooling; 3: 3x3, stride 2"),
      resnet_stem);
    f(image("image_depth", blocks, "blocks of a ViT, a multiple of 4"), image_depth);
    f(image("image_heads", size, "attention heads of a ViT, a divisor of image_width"),
      image_heads);
    f(image("swin_depths", between(1, 64), "blocks of each of the four levels"), swin_depths);
    f(image("swin_heads", size, "attention heads of each level, divisors of the levels' widths"),
      swin_heads);
    f(image("window", size, "side of a window of Swin, in tokens"), window);
    f(image("image_mlp_ratio", size, "hidden features of a feed-forward part, in widths"),
      image_mlp_ratio);
    f(image("image_ln_eps", norm, "epsilon of the image encoder's LayerNorm"), image_ln_eps);
    constexpr Keys joint{"Aggregation and joint space"};
    f(joint("grid", size, "side of the grid of regions that words are compared with"), grid);
    f(joint("d_a", size, "features of the aggregation"), d_a);
    f(joint("d_e", size, "features of the joint space of images and texts"), d_e);
    constexpr Keys text{"Text encoder and decoder"};
    f(text("d", size, "features of a text token"), d);
    f(text("heads", size, "attention heads, a divisor of d"), heads);
    f(text("uni_blocks", blocks, "blocks of the text encoder"), uni_blocks);
    f(text("dec_blocks", blocks, "blocks of the decoder"), dec_blocks);
    f(text("mlp_ratio", size, "hidden features of a feed-forward part, in widths"), mlp_ratio);
    f(text("vocab", between(5, 1e7), "tokens of the vocabulary; training sets it"), vocab);
    f(text("t_findings", between(3, 65536), "longest findings in tokens, [BOS] and [EOS] included"),
      t_findings);
    f(text("t_impression", between(3, 65536),
           "longest impression in tokens, [BOS] and [EOS] included"),
      t_impression);
    f(text("ln_eps", norm, "epsilon of LayerNorm in texts and aggregation"), ln_eps);
    f(text("pad", between(0, 1e7), "id of [PAD]; training sets it"), pad);
    f(text("bos", between(0, 1e7), "id of [BOS]; training sets it"), bos);
    f(text("eos", between(0, 1e7), "id of [EOS]; training sets it"), eos);
    constexpr Keys objective{objectives};
    f(objective("lambda_cg", weight, "weight of global alignment: image and impression"),
      lambda_cg);
    f(objective("lambda_cl", weight, "weight of local alignment: regions and words of findings"),
      lambda_cl);
    f(objective("lambda_sum", weight, "weight of summarization: findings to impression"),
      lambda_sum);
    f(objective("lambda_cap", weight, "weight of captioning: image to impression"), lambda_cap);
    f(objective("lambda_dis", weight, "weight of distillation: summarization teaches captioning"),
      lambda_dis);
    f(objective("lambda_siglip", weight, "weight of SigLIP's pairwise loss"), lambda_siglip);
    f(objective("lambda_token", weight, "weight of MGCA's alignment of tokens within a sample"),
      lambda_token);
    f(objective("lambda_prototype", weight, "weight of MGCA's alignment by prototypes"),
      lambda_prototype);
    f(objective("prototypes", between(2, 65536), "prototypes of MGCA"), prototypes);
    f(objective("label_smoothing_cg", below(0, 1), "label smoothing of global alignment"),
      label_smoothing_cg);
    f(objective("label_smoothing_gen", below(0, 1), "label smoothing of generated tokens"),
      label_smoothing_gen);
    f(objective("dedup_targets", anything(),
                "equal impressions of a batch count as positives of each other"),
      dedup_targets);
    f(objective("local_agg", one_of("mean|sum|max"),
                "how the scores of words become the score of a report"),
      local_agg);
    f(objective("gamma1", peak, "sharpness of a word's attention over regions"), gamma1);
    f(objective("gamma2", peak, "sharpness of the aggregation over words"), gamma2);
    f(objective("gamma3", peak, "inverse temperature of local alignment"), gamma3);
    f(objective("tau_d", between(0.01, 100), "temperature of distillation"), tau_d);
    f(objective("log_scale_init", between(0, 10),
                "ln of the first inverse temperature of global alignment, at most log_scale_max"),
      log_scale_init);
    f(objective("log_scale_max", between(0, 10), "ln of its largest value"), log_scale_max);
  }

  /// Throws Error naming the first key whose value cannot work: alone (`visit`), or with others.
  void validate() const {
    check_keys(*this, "model", "Config");
    const auto need = [](bool ok, const char* key, const std::string& why) {
      if (!ok) fail("model", "Config", std::string(key) + ": " + why);
    };
    need(image_size % patch == 0, "image_size",
         "expected a multiple of patch = " + std::to_string(patch) + ", got " +
             std::to_string(image_size));
    need(d % heads == 0, "heads",
         "expected a divisor of d = " + std::to_string(d) + ", got " + std::to_string(heads));
    need(log_scale_init <= log_scale_max, "log_scale_init",
         "expected at most log_scale_max = " + std::to_string(log_scale_max) + ", got " +
             std::to_string(log_scale_init));
    for (const auto& [key, weight] : {std::pair{"lambda_cg", lambda_cg},
                                      {"lambda_cl", lambda_cl},
                                      {"lambda_sum", lambda_sum},
                                      {"lambda_cap", lambda_cap},
                                      {"lambda_dis", lambda_dis},
                                      {"lambda_siglip", lambda_siglip},
                                      {"lambda_token", lambda_token},
                                      {"lambda_prototype", lambda_prototype}})
      need(weight == 0 || weight >= 1e-6, key,
           "expected 0 (the term is left out) or at least 1e-6: less teaches nothing");
    for (Index id : {pad, bos, eos})
      need(id < vocab, "pad, bos, eos", "expected ids below vocab = " + std::to_string(vocab));
    need(pad != bos && pad != eos && bos != eos, "pad, bos, eos", "expected three different ids");
    if (encoder == "vit") {
      need(image_depth % 4 == 0, "image_depth",
           "expected a multiple of 4 (four levels), got " + std::to_string(image_depth));
      need(image_width % image_heads == 0, "image_heads",
           "expected a divisor of image_width = " + std::to_string(image_width) + ", got " +
               std::to_string(image_heads));
    } else {
      need((image_size / patch) % 8 == 0, "image_size",
           "expected image_size / patch to be a multiple of 8 (four levels), got " +
               std::to_string(image_size) + " / " + std::to_string(patch));
    }
    if (encoder == "swin")
      for (std::size_t l = 0; l < 4; ++l) {
        const LevelShape level = swin().levels()[l];
        const std::string which = "level " + std::to_string(l + 1);
        need(level.width % swin_heads[l] == 0, "swin_heads",
             "expected a divisor of the width of " + which + ", " + std::to_string(level.width) +
                 ", got " + std::to_string(swin_heads[l]));
        need(level.side % (window < level.side ? window : level.side) == 0, "window",
             "expected every level to be a whole number of windows; " + which + " has " +
                 std::to_string(level.side) + " tokens a side, got windows of " +
                 std::to_string(window));
      }
    if (encoder == "resnet")
      need((resnet_stem == 7 && patch == 4) || (resnet_stem == 3 && patch == 2), "resnet_stem",
           "expected 7 with patch 4, or 3 with patch 2");
  }

  static constexpr std::string_view presets =
      "tiny, tiny-swin, tiny-resnet, small, vit-b16, swin-t, resnet50";
  /// The preset of that name, or the defaults where there is none.
  static Config usual(std::string_view name) {
    try {
      return preset(name);
    } catch (const Error&) {
      return {};
    }
  }
  static Config preset(std::string_view name) {
    Config c;
    c.name = name;
    const auto tiny = [&] {
      c.image_size = 64;
      c.patch = 8;
      c.image_width = 64;
      c.image_depth = 4;
      c.image_heads = 4;
      c.grid = 6;
      c.d_a = 40;
      c.d_e = 48;
      c.d = 64;
      c.heads = 4;
      c.uni_blocks = 2;
      c.dec_blocks = 2;
      c.vocab = 512;
      c.t_findings = 48;
      c.t_impression = 24;
    };
    if (name == "vit-b16") {
    } else if (name == "tiny") {
      tiny();
    } else if (name == "tiny-swin") {
      tiny();
      c.encoder = "swin";
      c.patch = 2;
      c.image_width = 8;
      c.swin_depths = {2, 2, 2, 2};
      c.swin_heads = {1, 2, 2, 4};
      c.window = 4;
      c.grid = 8;
      c.image_ln_eps = 1e-5;
    } else if (name == "tiny-resnet") {
      tiny();
      c.encoder = "resnet";
      c.patch = 2;
      c.image_width = 8;
      c.resnet_stem = 3;
      c.resnet_depths = {1, 2, 1, 1};
      c.grid = 8;
      c.image_ln_eps = 1e-5;
    } else if (name == "small") {
      c.image_size = 128;
      c.image_width = 256;
      c.image_depth = 8;
      c.image_heads = 4;
      c.grid = 8;
      c.d_a = 256;
      c.d_e = 256;
      c.d = 256;
      c.heads = 4;
      c.uni_blocks = 4;
      c.dec_blocks = 4;
      c.vocab = 8192;
      c.t_findings = 96;
      c.t_impression = 48;
    } else if (name == "swin-t") {
      c.encoder = "swin";
      c.patch = 4;
      c.image_width = 96;
      c.image_ln_eps = 1e-5;
    } else if (name == "resnet50") {
      c.encoder = "resnet";
      c.patch = 4;
      c.image_width = 64;
      c.resnet_block = "bottleneck";
      c.resnet_depths = {3, 4, 6, 3};
      c.image_ln_eps = 1e-5;
    } else {
      fail("model", "Config::preset", "unknown preset '" + std::string(name) + "'",
           "one of " + std::string(presets));
    }
    return c;
  }
};

}  // namespace hybridmed::model
