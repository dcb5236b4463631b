# frozen_string_literal: true

# Where datagrams go: nowhere, into a log, into a test, over a socket.

require "socket"

module StatsD
  module Instrument
    # Drops them.
    class NullSink
      def sample?(_rate)
        true
      end

      def <<(_datagram)
        self
      end

      def flush(blocking: false); end
    end

    # Logs them.
    class LogSink < NullSink
      attr_reader :logger, :severity

      def initialize(logger, severity: Logger::DEBUG)
        super()
        @logger = logger
        @severity = severity
      end

      def <<(datagram)
        logger.add(severity, "[StatsD] #{datagram.chomp}")
        self
      end
    end

    # Keeps them for a test, and passes them on.
    class CaptureSink < NullSink
      attr_reader :parent, :datagrams, :datagram_class

      def initialize(parent:, datagram_class: Datagram)
        super()
        @parent = parent
        @datagram_class = datagram_class
        @datagrams = []
      end

      def <<(datagram)
        @datagrams << datagram_class.new(datagram)
        parent << datagram
        self
      end

      def clear
        @datagrams.clear
      end

      def flush(blocking: false)
        parent.flush(blocking: blocking)
      end
    end

    # Sends each as it comes, over UDP or to a Unix socket. It never waits and never raises: what the kernel does not
    # take at once is lost, as with any StatsD client.
    class Sink
      # @param addr [String] `host:port`, or the path of a socket
      def self.for_addr(addr)
        new(addr)
      end

      attr_reader :host, :port

      def initialize(addr = nil)
        @addr = addr
        return unless addr&.include?(":")

        @host, port = addr.split(":", 2)
        @port = Integer(port)
      end

      def sample?(rate)
        rate == 1.0 || rand < rate
      end

      def <<(datagram)
        socket.sendmsg_nonblock(datagram)
        self
      rescue IO::WaitWritable
        self
      rescue SocketError, SystemCallError, IOError
        @socket = nil # the next one tries anew
        self
      end

      def flush(blocking: false); end

      private

      # Workers share what their master has opened: a socket of datagrams has no state to disturb.
      def socket
        @socket ||= @host ? UDPSocket.new.tap { |udp| udp.connect(@host, @port) } : unix
      end

      def unix
        Socket.new(:UNIX, :DGRAM).tap { |unix| unix.connect(Addrinfo.unix(@addr)) }
      end
    end
  end
end
