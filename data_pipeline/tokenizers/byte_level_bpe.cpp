// Byte-level BPE: words are bytes, and neighbours are joined in the order of a list (Sennrich et
// al. 2016, arXiv:1508.07909; bytes as in GPT-2). The ids are those of Hugging Face's tokenizers.
#include <algorithm>
#include <array>
#include <functional>
#include <queue>
#include <tuple>
#include <unordered_map>

#include "data_pipeline/byte_level_bpe_file.hpp"
#include "data_pipeline/tokenizer_model.hpp"
#include "data_pipeline/tokenizers/byte_names.hpp"
#include "data_pipeline/tokenizers/pattern_splitter.hpp"
#include "data_pipeline/utf8.hpp"

namespace filigree {
namespace {

// Stretches of text that are one token each: at every place the longest of them is taken.
class LiteralTokens {
 public:
  explicit LiteralTokens(const std::vector<BytePiece>& pieces) {
    for (std::size_t id = 0; id < pieces.size(); ++id)
      if (pieces[id].type == BytePieceType::literal)
        by_first_byte_[static_cast<std::uint8_t>(pieces[id].name[0])].push_back(
            {pieces[id].name, static_cast<std::int32_t>(id)});
    for (auto& group : by_first_byte_) {
      std::sort(group.begin(), group.end(),
                [](const Literal& a, const Literal& b) { return a.text.size() > b.text.size(); });
      empty_ = empty_ && group.empty();
    }
  }
  bool empty() const { return empty_; }

  struct Found {
    std::size_t size = 0;  // 0: none begins here
    std::int32_t id = -1;
    bool undecided = false;  // what may follow decides
  };
  // Which one `text` (not empty) begins with; `last`: nothing follows it.
  Found begins(std::string_view text, bool last) const {
    for (const Literal& literal : by_first_byte_[static_cast<std::uint8_t>(text[0])]) {
      if (text.starts_with(literal.text)) return {literal.text.size(), literal.id};
      if (!last && std::string_view(literal.text).starts_with(text)) return {0, -1, true};
    }
    return {};
  }

 private:
  struct Literal {
    std::string text;
    std::int32_t id;
  };
  std::array<std::vector<Literal>, 256> by_first_byte_;  // longest first
  bool empty_ = true;
};

// A literal token ends the text before it: words do not reach across.
class LiteralSplitter final : public WordSplitter {
 public:
  LiteralSplitter(const LiteralTokens& literals, std::unique_ptr<WordSplitter> between)
      : literals_(literals), between_(std::move(between)) {}

  void push(std::string_view part, WordSink& sink) override {
    pending_ += part;
    scan(false, sink);
  }
  void finish(WordSink& sink) override {
    scan(true, sink);
    between_->finish(sink);
  }

 private:
  void scan(bool last, WordSink& sink) {
    const std::string_view all = pending_;
    std::size_t begin = 0, at = 0;  // what is before `begin` was handed on
    while (at < all.size()) {
      const LiteralTokens::Found found = literals_.begins(all.substr(at), last);
      if (found.undecided) break;
      if (found.size == 0) {
        ++at;
        continue;
      }
      between_->push(all.substr(begin, at - begin), sink);
      between_->finish(sink);
      sink.token(found.id);
      begin = at = at + found.size;
    }
    between_->push(all.substr(begin, at - begin), sink);
    pending_.erase(0, at);
  }

  const LiteralTokens& literals_;
  std::unique_ptr<WordSplitter> between_;
  std::string pending_;
};

class ByteLevelBpeTokenizer final : public TokenizerModel {
 public:
  ByteLevelBpeTokenizer(const ByteLevelBpeFile& file, const FileProblem& problem);
  std::unique_ptr<WordSplitter> splitter() const override;
  void append_ids(std::string_view word, std::vector<std::int32_t>& ids) const override;

 private:
  struct Merge {
    std::int32_t rank, joined;
  };
  // Bytes of a word that are one token by now, in a list linked both ways.
  struct Symbol {
    std::int32_t id;
    std::int32_t before, after;  // -1: none; a symbol that was joined to the one before has id -1
  };
  // Lowest rank first, then leftmost.
  struct Candidate {
    std::int32_t rank, place, left, right, joined;
    bool operator>(const Candidate& other) const {
      return std::tie(rank, place) > std::tie(other.rank, other.place);
    }
  };
  using Candidates =
      std::priority_queue<Candidate, std::vector<Candidate>, std::greater<Candidate>>;
  void add_candidate(const std::vector<Symbol>& symbols, std::int32_t place,
                     Candidates& candidates) const;
  void join_all(std::vector<Symbol>& symbols) const;

  SplitPattern pattern_;
  bool normalises_;
  LiteralTokens literals_;
  std::array<std::int32_t, 256> byte_ids_{};
  std::unordered_map<std::uint64_t, Merge> merges_;            // by pair of ids
  std::unordered_map<std::string, std::int32_t> whole_words_;  // that are one piece at once
};

// Bytes that are no text: "<0xE2><0x80>".
std::string shown_bytes(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string shown;
  for (const char byte : bytes) {
    const auto value = static_cast<std::uint8_t>(byte);
    shown += {'<', '0', 'x', kDigits[value >> 4], kDigits[value & 15], '>'};
  }
  return shown;
}

Token token_of(const BytePiece& piece) {
  if (piece.type == BytePieceType::special) return {"", piece.name, TokenKind::control};
  Token token;
  // A name with other characters is its own text, as for tokenizers.
  if (piece.type == BytePieceType::literal || !bytes_of_name(piece.name, token.text))
    token.text = piece.name;
  const bool valid = utf8_valid_prefix(token.text) == token.text.size();
  token.name = valid ? token.text : shown_bytes(token.text);
  if (!valid && token.text.size() == 1) token.kind = TokenKind::byte;
  return token;
}

ByteLevelBpeTokenizer::ByteLevelBpeTokenizer(const ByteLevelBpeFile& file,
                                             const FileProblem& problem)
    : pattern_(file.words, problem), normalises_(file.normalises), literals_(file.pieces) {
  begin_of_document_ = file.begin_of_document;
  end_of_document_ = file.end_of_document;
  tokens_.reserve(file.pieces.size());
  if (file.ignore_merges) whole_words_.reserve(file.pieces.size());
  for (const BytePiece& piece : file.pieces) {
    const auto id = static_cast<std::int32_t>(tokens_.size());
    tokens_.push_back(token_of(piece));
    std::string bytes;
    if (piece.type == BytePieceType::special || !bytes_of_name(piece.name, bytes)) continue;
    if (piece.type == BytePieceType::literal && bytes != piece.name) continue;
    if (bytes.size() == 1) byte_ids_[static_cast<std::uint8_t>(bytes[0])] = id;
    if (file.ignore_merges) whole_words_.emplace(std::move(bytes), id);
  }
  merges_.reserve(file.merges.size());
  for (const ByteMerge& merge : file.merges)
    merges_.emplace(pair_key(merge.left, merge.right),
                    Merge{static_cast<std::int32_t>(merges_.size()), merge.joined});
}

std::unique_ptr<WordSplitter> ByteLevelBpeTokenizer::splitter() const {
  auto words = std::make_unique<PatternSplitter>(pattern_, normalises_);
  if (literals_.empty()) return words;
  return std::make_unique<LiteralSplitter>(literals_, std::move(words));
}

void ByteLevelBpeTokenizer::add_candidate(const std::vector<Symbol>& symbols, std::int32_t place,
                                          Candidates& candidates) const {
  if (place < 0) return;
  const Symbol& left = symbols[static_cast<std::size_t>(place)];
  if (left.after < 0) return;
  const std::int32_t right = symbols[static_cast<std::size_t>(left.after)].id;
  const auto merge = merges_.find(pair_key(left.id, right));
  if (merge != merges_.end())
    candidates.push({merge->second.rank, place, left.id, right, merge->second.joined});
}

void ByteLevelBpeTokenizer::join_all(std::vector<Symbol>& symbols) const {
  Candidates candidates;
  for (std::size_t place = 0; place < symbols.size(); ++place)
    add_candidate(symbols, static_cast<std::int32_t>(place), candidates);
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[static_cast<std::size_t>(best.place)];
    if (left.id != best.left || left.after < 0) continue;  // joined meanwhile
    Symbol& right = symbols[static_cast<std::size_t>(left.after)];
    if (right.id != best.right) continue;
    left.id = best.joined;
    left.after = right.after;
    right.id = -1;
    if (left.after >= 0) symbols[static_cast<std::size_t>(left.after)].before = best.place;
    add_candidate(symbols, left.before, candidates);
    add_candidate(symbols, best.place, candidates);
  }
}

void ByteLevelBpeTokenizer::append_ids(std::string_view word,
                                       std::vector<std::int32_t>& ids) const {
  if (!whole_words_.empty())
    if (const auto whole = whole_words_.find(std::string(word)); whole != whole_words_.end())
      return ids.push_back(whole->second);
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (const char byte : word) {
    const auto place = static_cast<std::int32_t>(symbols.size());
    symbols.push_back({byte_ids_[static_cast<std::uint8_t>(byte)], place - 1, place + 1});
  }
  if (symbols.empty()) return;
  symbols.back().after = -1;
  join_all(symbols);
  for (std::int32_t place = 0; place >= 0; place = symbols[static_cast<std::size_t>(place)].after)
    ids.push_back(symbols[static_cast<std::size_t>(place)].id);
}

}  // namespace

std::shared_ptr<const TokenizerModel> byte_level_bpe_tokenizer(const std::string& bytes,
                                                               const std::string& origin) {
  return std::make_shared<ByteLevelBpeTokenizer>(parse_byte_level_bpe(bytes, origin),
                                                 FileProblem("tokenizer", origin));
}

}  // namespace filigree
