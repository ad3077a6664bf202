// Configuration: membership tests, quorum arithmetic and the payload of a kConfig entry. Callers: the core, node/, status
// tables. Any thread. Little-endian; text is u32 length + bytes:
//
//   0         1          4              8
//   | version | reserved | voter count  | voters: id u64, incarnation u64, raft_addr text, api_addr text ...
//   | outgoing count u32 | outgoing: id u64, incarnation u64 ... | learner count u32 | learners: as voters ...
//
// Each list is strictly ascending by member; there is at least one voter; nobody is voter and learner at once.
#include <algorithm>
#include <iterator>
#include <string_view>

#include "base/bytes.h"
#include "raft/config.h"

namespace raft {

namespace {

constexpr std::uint8_t kConfigurationVersion = 1;
constexpr std::size_t kMembersMax = 64;   // per list
constexpr std::size_t kAddressMax = 255;  // bytes: a DNS name and a port
constexpr std::size_t kMemberSize = 16;

bool holds(const std::vector<MemberInfo>& list, base::Member member) {
  return std::any_of(list.begin(), list.end(), [&](const MemberInfo& info) { return info.member == member; });
}

void put(base::Writer& out, base::Member member) {
  out.u64(member.id.value);
  out.u64(member.incarnation.value);
}

void put(base::Writer& out, const std::vector<MemberInfo>& list) {
  out.u32(static_cast<std::uint32_t>(list.size()));
  for (const MemberInfo& info : list) {
    put(out, info.member);
    out.text(info.raft_addr);
    out.text(info.api_addr);
  }
}

base::Member get_member(base::Reader& in) {
  const base::NodeId id(in.u64());
  const base::Member member{id, base::Incarnation(in.u64())};
  if (!member) in.fail();
  return member;
}

std::uint32_t get_count(base::Reader& in) {
  const std::uint32_t count = in.u32();
  if (count > kMembersMax || count > in.remaining() / kMemberSize) in.fail();
  return in.ok() ? count : 0;
}

std::vector<MemberInfo> get_infos(base::Reader& in) {
  std::vector<MemberInfo> list;
  for (std::uint32_t left = get_count(in); left > 0 && in.ok(); --left) {
    MemberInfo info;
    info.member = get_member(in);
    info.raft_addr = in.text();
    info.api_addr = in.text();
    if (info.raft_addr.size() > kAddressMax || info.api_addr.size() > kAddressMax) in.fail();
    if (!list.empty() && !(list.back().member < info.member)) in.fail();
    list.push_back(std::move(info));
  }
  return list;
}

}  // namespace

bool Configuration::is_voter(base::Member member) const {
  return holds(voters, member) || std::find(outgoing.begin(), outgoing.end(), member) != outgoing.end();
}

bool Configuration::is_learner(base::Member member) const { return holds(learners, member); }

std::vector<base::Member> Configuration::all() const {
  std::vector<base::Member> members(outgoing);
  for (const MemberInfo& info : voters) members.push_back(info.member);
  for (const MemberInfo& info : learners) members.push_back(info.member);
  std::sort(members.begin(), members.end());
  members.erase(std::unique(members.begin(), members.end()), members.end());
  return members;
}

base::Bytes encode(const Configuration& configuration) {
  base::Writer out;
  out.u8(kConfigurationVersion);
  out.u8(0);
  out.u16(0);
  put(out, configuration.voters);
  out.u32(static_cast<std::uint32_t>(configuration.outgoing.size()));
  for (const base::Member member : configuration.outgoing) put(out, member);
  put(out, configuration.learners);
  return out.take();
}

base::Result<Configuration> decode_configuration(base::ByteView bytes) {
  base::Reader in(bytes);
  Configuration configuration;
  if (in.u8() != kConfigurationVersion) in.fail();
  if (in.u8() != 0) in.fail();
  if (in.u16() != 0) in.fail();
  configuration.voters = get_infos(in);
  for (std::uint32_t left = get_count(in); left > 0 && in.ok(); --left) {
    const base::Member member = get_member(in);
    if (!configuration.outgoing.empty() && !(configuration.outgoing.back() < member)) in.fail();
    configuration.outgoing.push_back(member);
  }
  configuration.learners = get_infos(in);
  for (const MemberInfo& info : configuration.learners)
    if (holds(configuration.voters, info.member)) in.fail();
  if (configuration.voters.empty()) in.fail();
  if (!in.at_end()) return base::make_error(base::Code::kCorrupt, "raft configuration: malformed member list");
  return configuration;
}

}  // namespace raft
