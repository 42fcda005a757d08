#pragma once
// The safetensors format (huggingface.co/docs/safetensors): u64 header length, JSON header, raw
// little-endian data. Reading trusts nothing: every length, product and offset is checked before a
// byte is touched.
#include <algorithm>
#include <map>

#include "hybridmed/autograd/variable.hpp"
#include "hybridmed/core/bfloat16.hpp"
#include "hybridmed/io/json.hpp"

namespace hybridmed::io {

enum class DType {
  f64,
  f32,
  f16,
  bf16,
  i64,
  i32,
  i16,
  i8,
  u8,
  boolean,
  u64,
  u32,
  u16,
  f8_e4m3,
  f8_e5m2,
  other
};

/// `other`: any type that this list does not name; its bytes are kept and not looked into.
struct DTypeInfo {
  DType type;
  std::string_view name;
  std::size_t bytes;
};
inline constexpr std::array<DTypeInfo, 16> dtypes{{{DType::f64, "F64", 8},
                                                   {DType::f32, "F32", 4},
                                                   {DType::f16, "F16", 2},
                                                   {DType::bf16, "BF16", 2},
                                                   {DType::i64, "I64", 8},
                                                   {DType::i32, "I32", 4},
                                                   {DType::i16, "I16", 2},
                                                   {DType::i8, "I8", 1},
                                                   {DType::u8, "U8", 1},
                                                   {DType::boolean, "BOOL", 1},
                                                   {DType::u64, "U64", 8},
                                                   {DType::u32, "U32", 4},
                                                   {DType::u16, "U16", 2},
                                                   {DType::f8_e4m3, "F8_E4M3", 1},
                                                   {DType::f8_e5m2, "F8_E5M2", 1},
                                                   {DType::other, "other", 1}}};
inline const DTypeInfo& info(DType t) { return dtypes[static_cast<std::size_t>(t)]; }

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<T, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<T, bfloat16>)
    return DType::bf16;
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return DType::i64;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return DType::i32;
  else if constexpr (std::is_same_v<T, std::int16_t>)
    return DType::i16;
  else if constexpr (std::is_same_v<T, std::int8_t>)
    return DType::i8;
  else if constexpr (std::is_same_v<T, bool>)
    return DType::boolean;
  else {
    static_assert(std::is_same_v<T, std::uint8_t>,
                  "hybridmed: a safetensors file holds float, double, bfloat16, signed integers, "
                  "bytes and bool, and not this scalar");
    return DType::u8;
  }
}

/// One tensor of a file: a view of its bytes, valid while the file lives.
struct StoredTensor {
  DType type = DType::f32;
  std::vector<Index> shape;
  std::span<const std::byte> bytes;
  std::string type_name = "F32";  // as the file says it

  /// Number of elements.
  Index size() const {
    Index n = 1;
    for (Index e : shape) {
      if (e == 0) return 0;
      n *= e;  // reading has bounded the product
    }
    return n;
  }
  /// May it be taken as a weight? Integers, codes of quantised weights and truth values may not.
  bool is_float() const {
    return type == DType::f64 || type == DType::f32 || type == DType::f16 || type == DType::bf16 ||
           type == DType::f8_e4m3 || type == DType::f8_e5m2;
  }
  /// Element i converted to double; NaN for a type that is not known.
  double at(Index i) const {
    const std::byte* p = bytes.data() + static_cast<std::size_t>(i) * info(type).bytes;
    switch (type) {
      case DType::f64:
        return load<double>(p);
      case DType::f32:
        return static_cast<double>(load<float>(p));
      case DType::bf16:
        return static_cast<double>(
            std::bit_cast<float>(static_cast<std::uint32_t>(load<std::uint16_t>(p)) << 16));
      case DType::f16:
        return half(load<std::uint16_t>(p));
      case DType::i64:
        return static_cast<double>(load<std::int64_t>(p));
      case DType::i32:
        return load<std::int32_t>(p);
      case DType::i16:
        return load<std::int16_t>(p);
      case DType::i8:
        return load<std::int8_t>(p);
      case DType::u64:
        return static_cast<double>(load<std::uint64_t>(p));
      case DType::u32:
        return load<std::uint32_t>(p);
      case DType::u16:
        return load<std::uint16_t>(p);
      case DType::f8_e5m2:
        return half(static_cast<std::uint16_t>(load<std::uint8_t>(p) << 8));
      case DType::f8_e4m3:
        return quarter(load<std::uint8_t>(p));
      case DType::other:
        return std::nan("");
      default:
        return load<std::uint8_t>(p);
    }
  }

 private:
  template <class T>
  static T load(const std::byte* p) {
    T v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  /// 4 bits of exponent, 3 of mantissa, no infinity.
  static double quarter(std::uint8_t q) {
    const double sign = q & 0x80 ? -1 : 1;
    const int exponent = q >> 3 & 15, mantissa = q & 7;
    if (exponent == 15 && mantissa == 7) return std::nan("");
    return sign * (exponent ? std::ldexp(8 + mantissa, exponent - 10) : std::ldexp(mantissa, -9));
  }
  static double half(std::uint16_t h) {
    const double sign = h & 0x8000 ? -1 : 1;
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31) return mantissa ? std::nan("") : sign * HUGE_VAL;
    return sign *
           (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
  }
};

class Safetensors {
 public:
  static Safetensors read(const std::filesystem::path& path) {
    return Safetensors(read_file(path), path.string());
  }
  /// Parses a file image; `source` is named in errors.
  Safetensors(std::vector<std::byte> bytes, std::string source)
      : bytes_(std::move(bytes)), source_(std::move(source)) {
    if (bytes_.size() < 8) bad("the file ends inside the 8-byte header length (offset 0)");
    std::uint64_t n;
    std::memcpy(&n, bytes_.data(), 8);
    if (n > bytes_.size() - 8 && is_torch_save())
      fail("io", "safetensors", source_ + ": a PyTorch checkpoint (torch.save), not safetensors",
           "in Python: safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
           "\"weights.safetensors\")");
    if (n > (std::uint64_t{100} << 20))
      bad("a header of " + std::to_string(n) + " bytes (limit 100 MiB)");
    if (n > bytes_.size() - 8)
      bad("a header of " + std::to_string(n) + " bytes, but only " +
          std::to_string(bytes_.size() - 8) + " follow: the file is cut short");
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + 8,
                                static_cast<std::size_t>(n));
    if (text.empty() || text[0] != '{') bad("the header does not start with '{' (offset 8)");
    const Json header = parse_json(text, source_ + " (header)");
    const std::span<const std::byte> data(bytes_.data() + 8 + n,
                                          bytes_.size() - 8 - static_cast<std::size_t>(n));
    std::vector<Range> ranges;
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        if (!entry.is_object()) bad("__metadata__ is not an object");
        for (const auto& [k, v] : entry.items()) {
          if (!v.is_string()) bad("__metadata__ '" + k + "' is not a string");
          metadata_[k] = v.get<std::string>();
        }
        continue;
      }
      add(name, entry, data, ranges);
    }
    std::sort(ranges.begin(), ranges.end());
    std::uint64_t end = 0;
    std::string before;
    for (const auto& [a, b, name] : ranges) {
      if (a < end)
        bad("tensor '" + name + "' overlaps tensor '" + before + "' at data offset " +
            std::to_string(a));
      if (a > end)
        bad("a hole before tensor '" + name + "': data bytes " + std::to_string(end) + " to " +
            std::to_string(a) + " belong to no tensor");
      end = b;
      before = name;
    }
    if (end != data.size())
      bad("tensors cover " + std::to_string(end) + " of " + std::to_string(data.size()) +
          " data bytes");
  }

  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& source() const { return source_; }
  /// The file image.
  std::span<const std::byte> bytes() const { return bytes_; }
  const StoredTensor* find(const std::string& name) const {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &it->second;
  }
  const StoredTensor& at(const std::string& name) const {
    if (const auto* t = find(name)) return *t;
    bad("no tensor named '" + name + "'");
  }

 private:
  /// A zip archive, or a pickle of protocol 2 or more.
  bool is_torch_save() const {
    const auto at = [&](std::size_t i) { return std::to_integer<unsigned>(bytes_[i]); };
    return (at(0) == 'P' && at(1) == 'K' && at(2) == 3 && at(3) == 4) ||
           (at(0) == 0x80 && at(1) >= 2 && at(1) <= 5);
  }
  [[noreturn]] void bad(const std::string& why) const {
    fail("io", "safetensors", source_ + ": " + why);
  }

  using Range = std::tuple<std::uint64_t, std::uint64_t, std::string>;  // begin, end, tensor

  void add(const std::string& name, const Json& e, std::span<const std::byte> data,
           std::vector<Range>& ranges) {
    if (!e.is_object() || !e.contains("dtype") || !e.contains("shape") ||
        !e.contains("data_offsets") || !e.at("dtype").is_string() || !e.at("shape").is_array() ||
        !e.at("data_offsets").is_array() || e.at("data_offsets").size() != 2)
      bad("tensor '" + name + "' needs dtype, shape and two data_offsets");
    StoredTensor t;
    const std::string type = e.at("dtype").get<std::string>();
    const auto known = std::find_if(dtypes.begin(), dtypes.end(),
                                    [&](const DTypeInfo& d) { return d.name == type; });
    const bool name_of_a_type =
        !type.empty() && type.size() <= 16 && type[0] >= 'A' && type[0] <= 'Z' &&
        type.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == type.npos;
    if (!name_of_a_type)
      bad("tensor '" + name + "' has the dtype '" + type.substr(0, 40) + "', which is none");
    t.type = known == dtypes.end() ? DType::other : known->type;
    t.type_name = type;
    const auto natural = [&](const Json& v, const char* what) {
      if (!v.is_number_unsigned())
        bad("tensor '" + name + "': " + what + " " + v.dump().substr(0, 40) +
            " is not a natural number");
      return v.get<std::uint64_t>();
    };
    std::uint64_t size = info(t.type).bytes;
    bool empty = false;
    for (const Json& v : e.at("shape")) {
      const std::uint64_t n = natural(v, "extent");
      if (n > (std::uint64_t{1} << 48))
        bad("tensor '" + name + "': extent " + std::to_string(n) + " is too large");
      empty |= n == 0;
      if (n != 0 && (__builtin_mul_overflow(size, n, &size) || size > (std::uint64_t{1} << 62)))
        bad("tensor '" + name + "': the product of its extents overflows");
      t.shape.push_back(static_cast<Index>(n));
    }
    if (t.shape.size() > 16) bad("tensor '" + name + "' has more than 16 dimensions");
    if (empty) size = 0;
    const std::uint64_t a = natural(e.at("data_offsets")[0], "offset"),
                        b = natural(e.at("data_offsets")[1], "offset");
    if (a > b)
      bad("tensor '" + name + "': its data would begin at " + std::to_string(a) + " and end at " +
          std::to_string(b));
    if (b > data.size())
      bad("tensor '" + name + "': offsets [" + std::to_string(a) + ", " + std::to_string(b) +
          ") outside " + std::to_string(data.size()) +
          " data bytes: the file is cut short or damaged");
    if (b - a != size && t.type != DType::other)
      bad("tensor '" + name + "': " + std::to_string(b - a) + " bytes, but its shape needs " +
          std::to_string(size));
    t.bytes = data.subspan(static_cast<std::size_t>(a), static_cast<std::size_t>(b - a));
    if (b > a) ranges.emplace_back(a, b, name);
    tensors_[name] = std::move(t);
  }

  std::vector<std::byte> bytes_;
  std::string source_;
  std::map<std::string, StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Collects tensors and writes them as one file: by falling element size, then name, so that each
/// is aligned.
class SafetensorsWriter {
 public:
  template <class T, class B>
  void add(const std::string& name, const Tensor<T, B>& t) {
    for (const Entry& other : entries_)
      if (other.name == name) fail("io", "safetensors", "the tensor '" + name + "' is added twice");
    Entry e{name,
            dtype_of<T>(),
            {},
            std::vector<std::byte>(static_cast<std::size_t>(t.size()) * sizeof(T))};
    for (int i = 0; i < t.shape().rank(); ++i) e.shape.push_back(t.shape()[i]);
    if (!e.bytes.empty()) t.copy_to_host(reinterpret_cast<T*>(e.bytes.data()));
    entries_.push_back(std::move(e));
  }
  void metadata(const std::string& key, const std::string& value) { metadata_[key] = value; }

  void write(const std::filesystem::path& path) {
    std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
      return std::pair(-static_cast<int>(info(a.type).bytes), a.name) <
             std::pair(-static_cast<int>(info(b.type).bytes), b.name);
    });
    Json header = Json::object();
    if (!metadata_.empty()) header["__metadata__"] = metadata_;
    std::uint64_t offset = 0;
    for (const Entry& e : entries_) {
      header[e.name] = {{"dtype", info(e.type).name},
                        {"shape", e.shape},
                        {"data_offsets", {offset, offset + e.bytes.size()}}};
      offset += e.bytes.size();
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const std::uint64_t n = text.size();
    Writer w(path);
    w.write(&n, 8);
    w.write(text.data(), text.size());
    for (const Entry& e : entries_) w.write(e.bytes.data(), e.bytes.size());
    w.close();
  }

 private:
  struct Entry {
    std::string name;
    DType type;
    std::vector<Index> shape;
    std::vector<std::byte> bytes;
  };
  std::vector<Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace hybridmed::io
