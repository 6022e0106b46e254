using System.Buffers;
using System.Buffers.Binary;
using System.Net;
using System.Runtime.InteropServices;
using System.Text;

namespace PciOperator.Host;

/// <summary>Reads a network namespace's state from the kernel (rtnetlink(7), linux/rtnetlink.h, linux/if_link.h).</summary>
internal static class Rtnetlink
{
    private const ushort RTM_GETLINK = 18;
    private const ushort RTM_GETADDR = 22;
    private const ushort RTM_GETROUTE = 26;
    private const ushort RTM_GETNEXTHOP = 106;
    private const ushort NLMSG_ERROR = 2;
    private const ushort NLMSG_DONE = 3;
    private const ushort NLM_F_DUMP_INTR = 0x10;
    private const ushort RequestDump = 0x301;
    private const int NETLINK_ROUTE = 0;
    private const int AF_NETLINK = 16;
    private const int SOCK_RAW_CLOEXEC = 3 | 0x80000;
    private const int AF_INET = 2;
    private const int AF_INET6 = 10;
    private const int Header = 16;
    private const int Attempts = 5;

    // The kernel gives a dump in pieces of at most half of this (netlink_dump).
    private const int LargestDatagram = 64 << 10;

    /// <summary>All of it, of the namespace that the calling thread is in.</summary>
    /// <exception cref="HostIoException">The kernel refused.</exception>
    public static HostNetwork Read()
    {
        int fd = Libc.Socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_ROUTE);
        if (fd < 0)
            throw Error(Marshal.GetLastPInvokeError());
        byte[] buffer = ArrayPool<byte>.Shared.Rent(LargestDatagram);
        try
        {
            // What the dump leaves out: statistics (RTEXT_FILTER_SKIP_STATS).
            byte[] link = new byte[24];
            BinaryPrimitives.WriteUInt16LittleEndian(link.AsSpan(16), 8);
            BinaryPrimitives.WriteUInt16LittleEndian(link.AsSpan(18), 29);
            BinaryPrimitives.WriteUInt32LittleEndian(link.AsSpan(20), 1 << 3);
            List<NetLink> links = Dump<NetLink>(fd, buffer, RTM_GETLINK, link, Link);
            List<NetAddress> addresses = Dump<NetAddress>(fd, buffer, RTM_GETADDR, new byte[8], Address);
            List<NetRoute> routes = Dump<NetRoute>(fd, buffer, RTM_GETROUTE, new byte[12], Routes);
            try
            {
                // With net.ipv4.nexthop_compat_mode=0 a route names a nexthop object instead of an interface.
                routes.AddRange(Dump<NetRoute>(fd, buffer, RTM_GETNEXTHOP, new byte[8], Nexthop));
            }
            catch (HostIoException e) when (e.Errno is Errnos.EOPNOTSUPP or Errnos.EINVAL)
            {
                // Kernels before 5.3 have none.
            }

            return new HostNetwork(links, addresses, routes);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
            _ = Libc.Close(fd);
        }
    }

    internal delegate void Part<T>(ReadOnlySpan<byte> message, List<T> to);

    private static unsafe List<T> Dump<T>(int fd, byte[] buffer, ushort type, ReadOnlySpan<byte> body, Part<T> parse)
    {
        byte[] request = new byte[Header + body.Length];
        BinaryPrimitives.WriteInt32LittleEndian(request, request.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(request.AsSpan(4), type);
        BinaryPrimitives.WriteUInt16LittleEndian(request.AsSpan(6), RequestDump);
        body.CopyTo(request.AsSpan(Header));
        var found = new List<T>();
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            found.Clear();
            nint sent;
            fixed (byte* p = request)
                sent = Libc.Write(fd, p, (nuint)request.Length);
            if (sent < 0)
                throw Error(Marshal.GetLastPInvokeError());
            bool done = false,
                torn = false;
            while (!done)
            {
                nint n;
                fixed (byte* p = buffer)
                    n = Libc.Read(fd, p, (nuint)buffer.Length);
                if (n < 0)
                {
                    int errno = Marshal.GetLastPInvokeError();
                    if (errno == Errnos.EINTR)
                        continue;
                    throw Error(errno);
                }

                done = Parse(buffer.AsSpan(0, (int)n), parse, found, ref torn);
            }

            // Something changed while it was read: some of it may be missing.
            if (!torn)
                return found;
        }

        throw new HostIoException(
            "read rtnetlink of",
            "the host's network",
            0,
            "The host's interfaces and routes change faster than they can be read; it is tried again."
        );
    }

    /// <summary>One datagram's messages; true when it ends the dump.</summary>
    internal static bool Parse<T>(ReadOnlySpan<byte> data, Part<T> parse, List<T> to, ref bool torn)
    {
        while (data.Length >= Header)
        {
            int length = BinaryPrimitives.ReadInt32LittleEndian(data);
            if (length < Header || length > data.Length)
                return true;
            ushort type = BinaryPrimitives.ReadUInt16LittleEndian(data[4..]);
            torn |= (BinaryPrimitives.ReadUInt16LittleEndian(data[6..]) & NLM_F_DUMP_INTR) != 0;
            ReadOnlySpan<byte> message = data[Header..length];
            if (type == NLMSG_DONE)
                return true;
            if (type == NLMSG_ERROR)
            {
                int errno = message.Length >= 4 ? -BinaryPrimitives.ReadInt32LittleEndian(message) : 0;
                throw Error(errno);
            }

            parse(message, to);
            data = data[Math.Min(data.Length, Aligned(length))..];
        }

        return false;
    }

    /// <summary>struct ifinfomsg and IFLA_…</summary>
    internal static void Link(ReadOnlySpan<byte> message, List<NetLink> to)
    {
        if (message.Length < 16)
            return;
        var link = new NetLink(BinaryPrimitives.ReadInt32LittleEndian(message[4..]), "")
        {
            HardwareType = BinaryPrimitives.ReadUInt16LittleEndian(message[2..]),
            Up = (message[8] & 1) != 0,
        };
        bool elsewhere = false;
        foreach (Attribute a in new Attributes(message[16..]))
        {
            switch (a.Type)
            {
                case 3:
                    link = link with { Name = Encoding.UTF8.GetString(a.Value.TrimEnd((byte)0)) };
                    break;
                case 5 when a.Number is var lower && lower != link.Index && lower > 0:
                    link = link with { Lower = lower };
                    break;
                case 10 when a.Number > 0:
                    link = link with { Master = a.Number };
                    break;
                case 18:
                    foreach (Attribute info in new Attributes(a.Value))
                    {
                        if (info.Type == 1)
                            link = link with { Kind = Encoding.UTF8.GetString(info.Value.TrimEnd((byte)0)) };
                    }

                    break;
                case 30:
                    link = link with { Promiscuity = a.Number };
                    break;
                case 37:
                    elsewhere = true;
                    break;
                case 43:
                    foreach (Attribute xdp in new Attributes(a.Value))
                        link = link with { Xdp = link.Xdp || (xdp.Type == 2 && xdp.Value is not [0, ..]) };
                    break;
                default:
                    break;
            }
        }

        to.Add(elsewhere ? link with { Lower = null } : link);
    }

    /// <summary>struct ifaddrmsg and IFA_…</summary>
    internal static void Address(ReadOnlySpan<byte> message, List<NetAddress> to)
    {
        if (message.Length < 8)
            return;
        string? text = null;
        bool linkLocal = false;
        foreach (Attribute a in new Attributes(message[8..]))
        {
            // Of a point-to-point interface IFA_ADDRESS is the other end's.
            if (a.Type != 2 && (a.Type != 1 || text is not null) || a.Value.Length is not (4 or 16))
                continue;
            var address = new IPAddress(a.Value);
            (text, linkLocal) = ($"{address}/{message[1]}", address.IsIPv6LinkLocal);
        }

        to.Add(new NetAddress(BinaryPrimitives.ReadInt32LittleEndian(message[4..]), text ?? $"of family {message[0]}", linkLocal));
    }

    /// <summary>struct rtmsg and RTA_…; without what the kernel makes itself for each address or each interface that is up.</summary>
    internal static void Routes(ReadOnlySpan<byte> message, List<NetRoute> to)
    {
        const int unicast = 1,
            kernel = 2;
        if (message.Length < 12)
            return;
        byte family = message[0],
            length = message[1],
            protocol = message[5],
            type = message[7];
        int table = message[4];
        if (type != unicast && protocol == kernel)
            return;
        string? destination = null;
        var through = new List<int>();
        foreach (Attribute a in new Attributes(message[12..]))
        {
            switch (a.Type)
            {
                case 1 when a.Value.Length is 4 or 16:
                    if (family == AF_INET6 && protocol == kernel && (a.Value[0] == 0xff || a.Value is [0xfe, 0x80, ..]))
                        return;
                    destination = $"{new IPAddress(a.Value)}/{length}";
                    break;
                case 1:
                    destination = $"of family {family}";
                    break;
                case 4:
                    through.Add(a.Number);
                    break;
                case 9:
                    ReadOnlySpan<byte> hops = a.Value;
                    while (hops.Length >= 8)
                    {
                        through.Add(BinaryPrimitives.ReadInt32LittleEndian(hops[4..]));
                        int size = BinaryPrimitives.ReadUInt16LittleEndian(hops);
                        if (size < 8)
                            break;
                        hops = hops[Math.Min(hops.Length, Aligned(size))..];
                    }

                    break;
                case 15:
                    table = a.Number;
                    break;
                default:
                    break;
            }
        }

        if (destination is null && family is not (AF_INET or AF_INET6))
            destination = $"of family {family}";
        foreach (int index in through)
            Add(to, new NetRoute(index, destination, table));
    }

    /// <summary>struct nhmsg and NHA_…</summary>
    internal static void Nexthop(ReadOnlySpan<byte> message, List<NetRoute> to)
    {
        if (message.Length < 8)
            return;
        foreach (Attribute a in new Attributes(message[8..]))
        {
            if (a.Type == 5)
                Add(to, new NetRoute(a.Number, "by a nexthop object", 0));
        }
    }

    /// <summary>A router's host has a million routes, and few interfaces.</summary>
    private static void Add(List<NetRoute> to, NetRoute route)
    {
        if (!to.Exists(r => r.Index == route.Index && r.Text is null == route.Text is null))
            to.Add(route);
    }

    private static int Aligned(int length) => (length + 3) & ~3;

    private static HostIoException Error(int errno) => new("read rtnetlink of", "the host's network", errno);

    /// <summary>struct rtattr.</summary>
    private readonly ref struct Attribute(int type, ReadOnlySpan<byte> value)
    {
        public int Type { get; } = type;

        public ReadOnlySpan<byte> Value { get; } = value;

        public int Number => Value.Length >= 4 ? BinaryPrimitives.ReadInt32LittleEndian(Value) : 0;
    }

    private ref struct Attributes(ReadOnlySpan<byte> data)
    {
        private ReadOnlySpan<byte> _rest = data;

        public Attribute Current { get; private set; }

        public readonly Attributes GetEnumerator() => this;

        public bool MoveNext()
        {
            if (_rest.Length < 4)
                return false;
            int length = BinaryPrimitives.ReadUInt16LittleEndian(_rest);
            if (length < 4 || length > _rest.Length)
                return false;
            Current = new Attribute(BinaryPrimitives.ReadUInt16LittleEndian(_rest[2..]) & 0x3fff, _rest[4..length]);
            _rest = _rest[Math.Min(_rest.Length, Aligned(length))..];
            return true;
        }
    }
}
