#pragma once
// Text files as UTF-8, whatever encoding they were saved in; conversions are iconv's.
#include <iconv.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>

#include "hybridmed/data/clean_text.hpp"
#include "hybridmed/io/file.hpp"

namespace hybridmed::data {

/// How a text file is to be read: "auto" takes UTF-8, and UTF-16 by its byte-order mark, and
/// refuses anything else; "utf-8" also takes bytes that are none; any other name is an encoding
/// that iconv knows ("latin-1" is Windows-1252, as browsers have it).
inline constexpr const char* auto_encoding = "auto";

namespace detail {

/// iconv's name of an encoding.
inline std::string iconv_name(const std::string& encoding) {
  std::string name;
  for (char c : encoding) name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name == "latin-1" || name == "latin1" || name == "iso-8859-1" ? "CP1252"
         : name == "utf8"                                              ? "utf-8"
                                                                       : name;
}

struct CloseConverter {
  void operator()(void* c) const { ::iconv_close(static_cast<iconv_t>(c)); }
};
using Converter = std::unique_ptr<void, CloseConverter>;

/// A converter to UTF-8.
/// @throws Error where the encoding is not known.
inline Converter converter_from(const std::string& encoding) {
  const bool plain =
      !encoding.empty() &&
      encoding.find('/') == encoding.npos;  // "//IGNORE" would drop characters without a word
  const iconv_t c =
      plain ? ::iconv_open("UTF-8", iconv_name(encoding).c_str()) : reinterpret_cast<iconv_t>(-1);
  if (c == reinterpret_cast<iconv_t>(-1))
    fail("data", "encoding", "'" + encoding + "' is no encoding that this machine knows",
         "expected auto, utf-8, utf-16, latin-1, windows-1252, gb18030, or another name that "
         "'iconv -l' lists");
  return Converter(c);
}

inline std::size_t line_at(std::string_view text, std::size_t at) {
  return 1 + static_cast<std::size_t>(
                 std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
}

inline std::string converted(std::string_view text, const std::string& encoding,
                             const std::string& source) {
  const Converter converter = converter_from(encoding);
  std::string bytes(text), out;  // iconv takes its input without const
  char* from = bytes.data();
  std::size_t left = bytes.size();
  char block[4096];
  while (left > 0) {
    char* to = block;
    std::size_t room = sizeof block;
    const std::size_t rc = ::iconv(static_cast<iconv_t>(converter.get()), &from, &left, &to, &room);
    const int why = errno;
    out.append(block, sizeof block - room);
    if (rc == static_cast<std::size_t>(-1) && why != E2BIG)
      fail("data", "encoding",
           source + ", line " + std::to_string(line_at(out, out.size())) + ": byte " +
               std::to_string(bytes.size() - left) + " is no " + encoding,
           "name its encoding with --set encoding=NAME");
  }
  char* to = block;
  std::size_t room = sizeof block;
  ::iconv(static_cast<iconv_t>(converter.get()), nullptr, nullptr, &to,
          &room);  // some encodings hold the last letter back
  out.append(block, sizeof block - room);
  return out;
}

/// Which of UTF-16 and UTF-32, of either order, bytes without a mark look like: by where the zeros
/// of their ASCII letters stand.
inline std::string wide_encoding(std::string_view bytes) {
  std::size_t zeros[4] = {};
  const std::size_t most = (std::min)(bytes.size(), std::size_t{4096});
  for (std::size_t i = 0; i < most; ++i) zeros[i % 4] += bytes[i] == '\0';
  const std::string order = zeros[0] > zeros[3] ? "be" : "le";
  const bool four_bytes = zeros[1] * 8 > most && zeros[2] * 8 > most;
  return (four_bytes ? "utf-32" : "utf-16") + order;
}

}  // namespace detail

/// @throws Error where `encoding` is no name of one.
inline void check_encoding(const std::string& encoding) {
  if (encoding != auto_encoding) detail::converter_from(encoding);
}

/// The bytes of a text file as UTF-8, without a byte-order mark. `source` is named in errors.
/// @throws Error that says what the file seems to be instead, where, and which key reads it.
inline std::string decode_text(std::string_view bytes, const std::string& encoding,
                               const std::string& source) {
  const auto without_zeros = [&](std::string text) {
    if (const auto zero = text.find('\0'); zero != text.npos)
      fail("data", "encoding",
           source + ", line " + std::to_string(detail::line_at(text, zero)) +
               ": a character of value 0: it is no text, or not in this encoding");
    return text;
  };
  if (bytes.starts_with("\xEF\xBB\xBF")) {
    bytes.remove_prefix(3);
  } else if (bytes.starts_with(std::string_view("\xFF\xFE\0\0", 4)) ||
             bytes.starts_with(std::string_view("\0\0\xFE\xFF", 4))) {
    return without_zeros(detail::converted(
        bytes.substr(4), bytes.starts_with("\xFF") ? "utf-32le" : "utf-32be", source));
  } else if (bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF")) {
    if (bytes.size() % 2)
      fail("data", "encoding",
           source +
               ": its encoding is UTF-16 by its first bytes, but it has an odd number of bytes: it "
               "is cut");
    return without_zeros(detail::converted(
        bytes.substr(2), bytes.starts_with("\xFF\xFE") ? "utf-16le" : "utf-16be", source));
  } else if (encoding != auto_encoding && detail::iconv_name(encoding) != "utf-8") {
    const bool ascii = std::all_of(bytes.begin(), bytes.end(),
                                   [](char c) { return static_cast<unsigned char>(c) < 128; });
    if (!ascii && is_utf8(bytes))
      fail("data", "encoding",
           source + ": it is UTF-8, letters beyond ASCII included; read as " + encoding +
               " they would be other letters",
           "leave encoding out, or set encoding=auto");
    return without_zeros(detail::converted(bytes, encoding, source));
  }
  if (bytes.starts_with("PK\3\4"))
    fail("data", "encoding", source + ": it is a zip archive or a spreadsheet, not text",
         "save the sheet as CSV (UTF-8)");
  if (const auto zero = bytes.find('\0'); zero != bytes.npos)
    fail("data", "encoding",
         source + ": a zero byte at offset " + std::to_string(zero) +
             ": it is no text, or its encoding is UTF-16 or UTF-32 without a byte-order mark",
         "--set encoding=" + detail::wide_encoding(bytes) + " reads such a file");
  if (const auto at = detail::iconv_name(encoding) != "utf-8" ? first_not_utf8(bytes) : bytes.npos;
      at != bytes.npos) {
    char byte[8];
    std::snprintf(byte, sizeof byte, "0x%02X",
                  static_cast<unsigned>(static_cast<unsigned char>(bytes[at])));
    fail("data", "encoding",
         source + ", line " + std::to_string(detail::line_at(bytes, at)) + ": the byte " + byte +
             " is no UTF-8: the file was saved in another encoding, probably Latin-1",
         "--set encoding=latin-1 (or windows-1252, gb18030, ...) reads it; encoding=utf-8 takes it "
         "without such bytes");
  }
  return std::string(bytes);
}
inline std::string read_text_file(const std::filesystem::path& path,
                                  const std::string& encoding = auto_encoding) {
  return decode_text(io::read_text(path), encoding, path.string());
}

}  // namespace hybridmed::data
