// Plain blocking sockets for tests: a raw client, and a TCP proxy whose hook sees, changes, holds or repeats what
// passes.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "base/mutex.h"
#include "net/address.h"

namespace net_test {

inline sockaddr_storage socket_address(const std::string& text) {
  const auto parsed = net::parse_address(text, "test");
  EXPECT_TRUE(parsed);
  const auto numeric = net::numeric_address(*parsed);
  EXPECT_TRUE(numeric.has_value());
  return *numeric;
}

// A connection to a listener, by hand. Reads end after 20 s whatever happens.
class RawClient {
 public:
  explicit RawClient(const std::string& address) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_storage to = socket_address(address);
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    EXPECT_EQ(::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(sockaddr_in)), 0);
  }
  ~RawClient() { ::close(fd_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  // False: the other side has closed.
  bool write(base::ByteView bytes) {
    return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  void finish_writing() { ::shutdown(fd_, SHUT_WR); }
  // Up to `size` bytes; fewer at the end of the connection.
  base::Bytes read(std::size_t size) {
    base::Bytes out(size);
    std::size_t have = 0;
    while (have < size) {
      const ssize_t count = ::recv(fd_, out.data() + have, size - have, 0);
      if (count <= 0) {
        timed_out_ = count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
        break;
      }
      have += static_cast<std::size_t>(count);
    }
    out.resize(have);
    return out;
  }
  // Reads until the other side closes; false when it does not.
  bool read_to_end() {
    while (!read(4096).empty()) {
    }
    return !timed_out_;
  }

 private:
  int fd_;
  bool timed_out_ = false;
};

// Accepts connections on a free port and hands each to `serve` on a thread of its own.
class TestServer {
 public:
  using Serve = std::function<void(int fd, int number)>;
  // `receive_buffer`: bytes that the kernel keeps of each connection; 0: as it likes.
  explicit TestServer(Serve serve, int receive_buffer = 0)
      : serve_(std::move(serve)), fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_buffer != 0) {
      EXPECT_EQ(::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer), 0);
    }
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&any), sizeof any), 0);
    EXPECT_EQ(::listen(fd_, 64), 0);
    socklen_t size = sizeof any;
    EXPECT_EQ(::getsockname(fd_, reinterpret_cast<sockaddr*>(&any), &size), 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(any.sin_port));
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~TestServer() { stop(); }
  void stop() {
    if (stopping_.exchange(true)) return;
    ::shutdown(fd_, SHUT_RDWR);
    acceptor_.join();
    {
      const base::MutexLock lock(mutex_);
      for (const int fd : fds_) ::shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    {
      const base::MutexLock lock(mutex_);
      for (const int fd : fds_) ::close(fd);
    }
    ::close(fd_);
  }
  // Descriptors that end with the server.
  void own(int fd) {
    const base::MutexLock lock(mutex_);
    fds_.push_back(fd);
    if (stopping_) ::shutdown(fd, SHUT_RDWR);
  }
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  void accept_all() {
    for (int number = 0;; ++number) {
      const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      own(fd);
      threads_.emplace_back([this, fd, number] { serve_(fd, number); });
    }
  }
  const Serve serve_;
  int fd_;
  std::string address_;
  std::atomic<bool> stopping_{false};
  std::thread acceptor_;
  base::Mutex mutex_;
  std::vector<int> fds_ GUARDED_BY(mutex_);
  std::list<std::thread> threads_;  // the acceptor's until it is joined
};

// Passes bytes on in both directions. The hook may change them; false ends the connection.
class Proxy {
 public:
  enum class Direction { kToTarget, kToClient };
  // `offset`: how many bytes of this connection went in this direction before.
  using Hook = std::function<bool(Direction direction, int connection, std::size_t offset, base::Bytes& bytes)>;
  Proxy(std::string target, Hook hook, int receive_buffer = 0)
      : target_(std::move(target)),
        hook_(std::move(hook)),
        server_([this](int fd, int number) { serve(fd, number); }, receive_buffer) {}
  [[nodiscard]] const std::string& address() const { return server_.address(); }

 private:
  void serve(int client, int number) {
    const int target = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    server_.own(target);
    const sockaddr_storage to = socket_address(target_);
    if (::connect(target, reinterpret_cast<const sockaddr*>(&to), sizeof(sockaddr_in)) == 0) {
      std::thread back([&] { pump(target, client, Direction::kToClient, number); });
      pump(client, target, Direction::kToTarget, number);
      back.join();
    } else {
      ::shutdown(client, SHUT_RDWR);
    }
  }
  void pump(int from, int to, Direction direction, int number) {
    std::size_t offset = 0;
    base::Bytes bytes;
    while (true) {
      bytes.resize(std::size_t{64} << 10);
      const ssize_t count = ::recv(from, bytes.data(), bytes.size(), 0);
      if (count <= 0) break;
      bytes.resize(static_cast<std::size_t>(count));
      if (!hook_(direction, number, offset, bytes)) break;
      offset += static_cast<std::size_t>(count);
      if (::send(to, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) break;
    }
    ::shutdown(from, SHUT_RDWR);
    ::shutdown(to, SHUT_RDWR);
  }
  const std::string target_;
  const Hook hook_;
  TestServer server_;
};

}  // namespace net_test
