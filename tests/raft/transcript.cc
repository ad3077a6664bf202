// Runs the scenarios in tests/raft/transcripts/*.txt: comment lines, command lines, a line `----`, the expected output, blank line.
// Several such blocks in one file continue the same cluster. `HQL_REWRITE=1` or `--rewrite` rewrites the expected output: read the
// diff, a transcript that shows wrong behaviour is a bug.
//
// Commands (N, M: node, or node.incarnation):
//   cluster voters=1,2,3 [learners=4]       initial configuration (in force before the first entry)
//   node N [log=1x3,4x2] [term=T] [vote=M] [commit=I] [floor=I@T] [empty] [damaged=I@T] [option=value ...]   make and start
//   campaign N | tick N|all [count] | propose N text [chain] [size=bytes] [times=K] | read N context | transfer N [M] | stall N on|off
//   change N voters=... [learners=...]      | floor N index | install N from M [index] | plan N from M | fail N
//   pays N on|off | pay N [waited]          the driver pays what followers are owed at once (at first: on) | now; all, or up to
//                                         `waited`, has waited since the last time
//   owed N | hurry N M | announce N M
//   slow N | fast N | persist N [count]     disk: jobs wait | complete at once | complete some
//   deliver [N>M] [count]                   all until quiet, or only those of one link (count: so many of them)
//   drop [N>M] | cut N>M ... | isolate N | heal | down N M | up N M | crash N | restart N
//   tear N                                  crash while all waiting jobs are written: of them only the hard state is left
//   trace on|off                            print every message when it is delivered or lost
//   quiet on|off                            commands print nothing
//   status [N] | log N | peers N | network
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "cluster.h"

namespace raft_test {
namespace {

constexpr int kDeliverMax = 10000;  // messages by one command: more is a storm

struct Words {
  std::vector<std::string> plain;
  std::map<std::string, std::string> named;
};

Words split(const std::string& line) {
  std::istringstream in(line);
  Words words;
  for (std::string word; in >> word;) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos)
      words.plain.push_back(word);
    else
      words.named[word.substr(0, equals)] = word.substr(equals + 1);
  }
  return words;
}

std::vector<std::string> commas(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

LogId parse_id(const std::string& text) {
  return {Term(std::stoull(text.substr(text.find('@') + 1))), Index(std::stoull(text))};
}

class Transcript {
 public:
  Transcript() {
    cluster_.on_ready = [this](Node& node, const raft::Ready& ready) { report(node, ready); };
  }

  std::string run(const std::string& line) {
    out_.str("");
    const Words words = split(line);
    const std::string command = words.plain.empty() ? "" : words.plain[0];
    execute(command, words);
    settle();
    return quiet_ || command == "quiet" ? "" : out_.str();
  }

 private:
  Node& node(const Words& words, std::size_t position = 1) {
    return cluster_.at(parse_member(words.plain.at(position)));
  }
  raft::Core& core(const Words& words) { return *node(words).core; }

  // Nodes talk to their disks, not to each other, until `deliver`.
  void settle() {
    cluster_.drain_all();
    for (auto& [member, each] : cluster_.nodes) {
      if (!each.core) continue;
      if (!each.fresh.empty()) {
        out_ << name(member) << ": apply";
        if (each.fresh.size() > 3)
          out_ << " " << each.fresh.front().id.index.value << ".." << each.fresh.back().id.index.value << "\n";
        else
          for (const Entry& entry : each.fresh) out_ << (&entry == each.fresh.data() ? " " : ", ") << describe(entry);
        if (each.fresh.size() <= 3) out_ << "\n";
        each.core->applied(each.fresh.back().id.index);
        each.disk.applied = each.fresh.back().id.index;
        each.fresh.clear();
      }
      for (const raft::ReadResult& read : each.reads) {
        out_ << name(member) << ": read " << read.context;
        if (read.ok)
          out_ << " index=" << read.index.value << "\n";
        else
          out_ << " failed\n";
      }
      each.reads.clear();
    }
  }

  void report(Node& each, const raft::Ready& ready) {
    for (const Index wanted : ready.snapshots_wanted)
      out_ << name(each.member) << ": wants snapshot " << wanted.value << "\n";
    for (const raft::LogRead& read : ready.log_reads)
      out_ << name(each.member) << ": reads its log " << read.first.value << ".." << read.last.value << "\n";
    if (!ready.status_changed) return;
    const raft::Status status = each.core->status();
    std::ostringstream line;
    line << raft::to_string(status.role) << " term=" << status.term.value << " leader=" << name(status.leader);
    if (status.transfer_to) line << " transfer=" << name(status.transfer_to);
    if (!status.may_vote) line << " damaged";
    auto& [role, configuration] = shown_[each.member];
    if (role != line.str()) out_ << name(each.member) << ": " << line.str() << "\n";
    role = line.str();
    const std::string members =
        describe(status.configuration) + (status.configuration_committed ? "" : " (uncommitted)");
    if (!configuration.empty() && configuration != members) out_ << name(each.member) << ": " << members << "\n";
    configuration = members;
  }

  bool lost(const raft::Message& message) const { return cut_.count({message.from, message.to}) > 0; }

  void deliver(const Words& words) {
    std::string link;
    std::size_t count = kDeliverMax;
    for (std::size_t i = 1; i < words.plain.size(); ++i) {
      if (words.plain[i].find('>') != std::string::npos)
        link = words.plain[i];
      else
        count = std::stoull(words.plain[i]);
    }
    for (int steps = 0; count > 0;) {
      settle();
      auto& network = cluster_.network;
      auto next = network.begin();
      while (next != network.end() && !link.empty() && name(next->from) + ">" + name(next->to) != link) ++next;
      if (next == network.end()) return;
      const raft::Message message = *next;
      network.erase(next);
      --count;
      if (trace_) out_ << (lost(message) ? "lost " : "") << describe(message) << "\n";
      if (lost(message)) continue;
      if (++steps >= kDeliverMax) {
        out_ << "endless: " << describe(message) << "\n";
        return;
      }
      cluster_.deliver(message);
    }
  }

  void make_node(const Words& words) {
    const Member member = parse_member(words.plain.at(1));
    Disk disk;
    raft::Options options;
    options.seed = member.id.value;
    const bool empty = words.plain.size() > 2 && words.plain[2] == "empty";
    if (!empty) disk.floor_configuration = configuration_;
    for (const auto& [key, value] : words.named) {
      const auto number = [text = value] { return std::stoull(text); };
      if (key == "floor")
        disk.floor = parse_id(value);
      else if (key == "term")
        disk.hard.term = Term(number());
      else if (key == "vote")
        disk.hard.voted_for = parse_member(value);
      else if (key == "commit")
        disk.hard.commit = Index(number());
      else if (key == "applied")
        disk.applied = Index(number());
      else if (key == "cache")
        options.cache_bytes_max = number();
      else if (key == "inflight")
        options.append_inflight_max = static_cast<int>(number());
      else if (key == "append_bytes")
        options.append_bytes_max = number();
      else if (key == "uncommitted")
        options.uncommitted_bytes_max = number();
      else if (key == "priority")
        options.priority = static_cast<int>(number());
      else if (key == "seed")
        options.seed = number();
      else if (key == "damaged")
        disk.vote_floor = parse_id(value);
      else if (key != "log")
        out_ << "unknown option " << key << "\n";
    }
    disk.may_vote = words.named.count("damaged") == 0;
    if (const auto log = words.named.find("log"); log != words.named.end()) {
      for (const std::string& part : commas(log->second)) {
        const std::uint64_t repeat =
            part.find('x') == std::string::npos ? 1 : std::stoull(part.substr(part.find('x') + 1));
        for (std::uint64_t i = 0; i < repeat; ++i) {
          Entry entry{{Term(std::stoull(part)), disk.last().index.next()}, base::EntryKind::kData, nullptr};
          entry.payload = base::share(base::copy_of(base::view_of(std::string_view("old"))));
          disk.entries.push_back(std::move(entry));
        }
      }
    }
    if (disk.hard.term < disk.last().term) disk.hard.term = disk.last().term;
    cluster_.start(cluster_.add(member, options, std::move(disk)));
  }

  raft::Configuration lists(const Words& words) const {
    raft::Configuration configuration;
    if (words.named.count("voters") > 0)
      for (const std::string& each : commas(words.named.at("voters")))
        configuration.voters.push_back(info(parse_member(each)));
    if (words.named.count("learners") > 0)
      for (const std::string& each : commas(words.named.at("learners")))
        configuration.learners.push_back(info(parse_member(each)));
    return configuration;
  }

  template <class Value>
  void say(const base::Result<Value>& result) {
    if (!result) {
      out_ << "refused: " << base::to_string(result.error()) << "\n";
      return;
    }
    if constexpr (std::is_same_v<Value, LogId>)
      out_ << describe(*result) << "\n";
    else
      out_ << "ok\n";
  }

  void print_status(Node& each) {
    out_ << name(each.member) << ": ";
    if (!each.core) {
      out_ << "down\n";
      return;
    }
    const raft::Status status = each.core->status();
    out_ << raft::to_string(status.role) << " term=" << status.term.value << " leader=" << name(status.leader)
         << " last=" << describe(status.last) << " durable=" << status.durable.value
         << " commit=" << status.commit.value;
    if (status.floor.index) out_ << " floor=" << describe(status.floor);
    if (status.uncommitted_bytes > 0) out_ << " uncommitted=" << status.uncommitted_bytes;
    out_ << " " << describe(status.configuration) << (status.configuration_committed ? "" : " (uncommitted)") << "\n";
  }

  void install(const Words& words) {
    Node& target = node(words);
    Node& source = node(words, 3);
    const raft::Status status = source.core->status();
    const Index index = words.plain.size() > 4 ? Index(std::stoull(words.plain[4])) : status.commit;
    const LogId id{*source.core->term_at(index), index};
    const raft::InstallPlan plan = target.core->begin_install(id);
    constexpr const char* kPlans[] = {"useless", "wait", "keep suffix", "reset"};
    out_ << name(target.member) << ": plan for " << describe(id) << ": " << kPlans[static_cast<int>(plan)] << "\n";
    if (words.plain[0] == "plan") return;
    if (plan == raft::InstallPlan::kUseless || plan == raft::InstallPlan::kWait) return;
    Disk& disk = target.disk;
    if (plan == raft::InstallPlan::kReset)
      disk.entries.clear();
    else
      disk.entries.erase(disk.entries.begin(),
                         disk.entries.begin() + static_cast<std::ptrdiff_t>(id.index.value - disk.floor.index.value));
    disk.floor = id;
    disk.applied = id.index;
    disk.floor_configuration = status.configuration;
    target.core->snapshot_installed(id, status.configuration);
  }

  void set_floor(const Words& words) {
    Node& each = node(words);
    const Index index(std::stoull(words.plain.at(2)));
    const LogId id{*each.core->term_at(index), index};
    Disk& disk = each.disk;
    disk.entries.erase(disk.entries.begin(),
                       disk.entries.begin() + static_cast<std::ptrdiff_t>(index.value - disk.floor.index.value));
    disk.floor = id;
    disk.floor_configuration = each.core->status().configuration;
    each.core->set_floor(id, disk.floor_configuration);
  }

  void propose(const Words& words) {
    const auto named = [&](const char* key, std::size_t fallback) {
      const auto found = words.named.find(key);
      return found == words.named.end() ? fallback : std::stoull(found->second);
    };
    std::string text = words.plain.at(2);
    text.resize(named("size", text.size()), '.');
    const auto nature = words.plain.size() > 3 ? raft::Proposal::kContinuesChain : raft::Proposal::kWhole;
    const std::size_t times = named("times", 1);
    for (std::size_t i = 1; i <= times; ++i) {
      const auto id =
          core(words).propose(base::EntryKind::kData, base::share(base::copy_of(base::view_of(text))), nature);
      if (i == 1 || i == times) say(id);
      settle();
    }
  }

  void execute(const std::string& command, const Words& words) {
    const auto number = [&](std::size_t position, std::uint64_t fallback) {
      return words.plain.size() > position ? std::stoull(words.plain[position]) : fallback;
    };
    if (command == "cluster")
      configuration_ = lists(words);
    else if (command == "node")
      make_node(words);
    else if (command == "campaign")
      core(words).campaign();
    else if (command == "tick")
      tick(words, number(2, 1));
    else if (command == "propose")
      propose(words);
    else if (command == "read")
      core(words).read_index(number(2, 0));
    else if (command == "transfer")
      say(core(words).transfer(words.plain.size() > 2 ? parse_member(words.plain[2]) : Member{}));
    else if (command == "stall")
      core(words).disk_stalled(words.plain.at(2) == "on");
    else if (command == "change") {
      raft::Configuration wanted = lists(words);
      say(core(words).change_configuration(wanted.voters, wanted.learners));
    } else if (command == "pays")
      node(words).pays = words.plain.at(2) == "on";
    else if (command == "pay")
      core(words).pay_followers(Index(number(2, core(words).status().last.index.value)));
    else if (command == "owed") {
      settle();
      const auto owed = core(words).followers_owed();
      out_ << words.plain[1] << ": " << (owed ? "owes up to " + std::to_string(owed->value) : "owes nothing") << "\n";
    } else if (command == "hurry")
      core(words).hurry(parse_member(words.plain.at(2)));
    else if (command == "announce")
      core(words).announce_commit(parse_member(words.plain.at(2)));
    else if (command == "floor")
      set_floor(words);
    else if (command == "install" || command == "plan")
      install(words);
    else if (command == "fail")
      core(words).snapshot_failed();
    else if (command == "slow")
      node(words).slow_disk = true;
    else if (command == "fast") {
      node(words).slow_disk = false;
      while (cluster_.complete(node(words))) settle();
      while (!node(words).log_reads.empty()) cluster_.answer_log_read(node(words));
    } else if (command == "persist") {
      for (std::uint64_t left = number(2, 1); left > 0 && cluster_.complete(node(words)); --left) settle();
    } else if (command == "deliver")
      deliver(words);
    else if (command == "drop") {
      std::erase_if(cluster_.network, [&](const raft::Message& message) {
        return words.plain.size() < 2 || name(message.from) + ">" + name(message.to) == words.plain[1];
      });
    } else if (command == "cut") {
      for (std::size_t i = 1; i < words.plain.size(); ++i) {
        const std::size_t arrow = words.plain[i].find('>');
        cut_.insert({parse_member(words.plain[i].substr(0, arrow)), parse_member(words.plain[i].substr(arrow + 1))});
      }
    } else if (command == "isolate") {
      const Member member = parse_member(words.plain.at(1));
      for (const auto& [other, each] : cluster_.nodes) {
        cut_.insert({member, other});
        cut_.insert({other, member});
      }
    } else if (command == "heal")
      cut_.clear();
    else if (command == "down")
      core(words).peer_down(parse_member(words.plain.at(2)));
    else if (command == "up")
      core(words).peer_up(parse_member(words.plain.at(2)));
    else if (command == "crash" || command == "tear") {
      command == "tear" ? cluster_.tear(node(words), node(words).jobs.size()) : cluster_.crash(node(words));
      shown_.erase(parse_member(words.plain.at(1)));
    } else if (command == "restart") {
      node(words).no_payloads = true;
      cluster_.start(node(words));
    } else if (command == "trace")
      trace_ = words.plain.at(1) == "on";
    else if (command == "quiet")
      quiet_ = words.plain.at(1) == "on";
    else if (command == "status") {
      settle();
      for (auto& [member, each] : cluster_.nodes)
        if (words.plain.size() < 2 || parse_member(words.plain[1]) == member) print_status(each);
    } else if (command == "log") {
      const raft::Status status = core(words).status();
      out_ << words.plain[1] << ":";
      for (Index at = status.floor.index.next(); at <= status.last.index; at = at.next())
        out_ << " " << core(words).term_at(at)->value;
      out_ << "\n";
    } else if (command == "peers") {
      settle();
      for (const raft::PeerStatus& peer : core(words).status().peers)
        out_ << name(peer.member) << (peer.voter ? "" : " (no voter)") << ": " << peer.state
             << " match=" << peer.match.value << " next=" << peer.next.value << (peer.recent_active ? "" : " silent")
             << "\n";
    } else if (command == "network") {
      settle();
      for (const raft::Message& message : cluster_.network) out_ << describe(message) << "\n";
    } else
      out_ << "unknown command " << command << "\n";
  }

  void tick(const Words& words, std::uint64_t count) {
    for (; count > 0; --count) {
      for (auto& [member, each] : cluster_.nodes) {
        if (!each.core || (words.plain.at(1) != "all" && parse_member(words.plain[1]) != member)) continue;
        each.core->tick();
      }
      settle();
      if (words.plain[1] == "all") deliver(Words{});  // time passes for all: so does the network
    }
  }

  Cluster cluster_;
  raft::Configuration configuration_;
  std::map<Member, std::pair<std::string, std::string>> shown_;  // role line, configuration
  std::set<std::pair<Member, Member>> cut_;
  bool trace_ = false;
  bool quiet_ = false;
  std::ostringstream out_;
};

// The file with the output that the commands give now.
std::string play(const std::string& text) {
  Transcript transcript;
  std::istringstream in(text);
  std::ostringstream result;
  std::string output;
  bool expecting = false;
  for (std::string line; std::getline(in, line);) {
    if (expecting) {
      if (!line.empty()) continue;  // the old output
      expecting = false;
      result << "\n";
    } else if (line == "----") {
      result << line << "\n" << output;
      output.clear();
      expecting = true;
    } else {
      result << line << "\n";
      if (!line.empty() && line[0] != '#') output += transcript.run(line);
    }
  }
  return result.str();
}

bool rewrite() {
  if (std::getenv("HQL_REWRITE")) return true;
  for (const std::string& argument : testing::internal::GetArgvs())
    if (argument == "--rewrite") return true;
  return false;
}

class TranscriptFile : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(TranscriptFile, Played_GivesTheOutputInTheFile) {
  std::ifstream file(GetParam());
  std::stringstream text;
  text << file.rdbuf();
  const std::string played = play(text.str());
  if (rewrite()) {
    std::ofstream(GetParam()) << played;
    return;
  }
  EXPECT_EQ(text.str(), played);
}

std::vector<std::filesystem::path> transcripts() {
  std::vector<std::filesystem::path> files;
  for (const auto& each : std::filesystem::directory_iterator(HQL_TRANSCRIPTS))
    if (each.path().extension() == ".txt") files.push_back(each.path());
  std::sort(files.begin(), files.end());
  return files;
}

INSTANTIATE_TEST_SUITE_P(Transcripts, TranscriptFile, testing::ValuesIn(transcripts()),
                         [](const testing::TestParamInfo<std::filesystem::path>& each) {
                           std::string stem = each.param.stem().string();
                           std::replace(stem.begin(), stem.end(), '-', '_');
                           return stem;
                         });

TEST(TranscriptFiles, Directory_HasThem) { EXPECT_GE(transcripts().size(), 15u); }

}  // namespace
}  // namespace raft_test
