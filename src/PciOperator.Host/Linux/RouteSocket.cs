using System.Runtime.InteropServices;

namespace PciOperator.Host;

/// <summary>
/// A rtnetlink socket (NETLINK_ROUTE) in the network namespace of this process, for what PFs keep and count of VFs. The kernel answers within
/// the call that asks, so nothing is waited for.
/// </summary>
internal sealed class RouteSocket : IDisposable
{
    private const int AF_NETLINK = 16;
    private const int SOCK_RAW = 3;
    private const int SOCK_CLOEXEC = 0x80000;
    private const int NETLINK_ROUTE = 0;
    private const int SOL_NETLINK = 270;
    private const int NETLINK_CAP_ACK = 10;
    private const int NETLINK_EXT_ACK = 11;
    private const int MSG_PEEK = 2;
    private const int MSG_TRUNC = 0x20;
    private const int MSG_DONTWAIT = 0x40;
    private readonly int _fd;
    private uint _sequence;

    /// <exception cref="HostIoException">The socket can't be made.</exception>
    public RouteSocket()
    {
        _fd = Libc.Socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
        if (_fd < 0)
            throw new HostIoException("open", "rtnetlink socket", Marshal.GetLastPInvokeError());

        // The kernel's own words about an error; older kernels do without.
        int on = 1;
        _ = Libc.SetSocketOption(_fd, SOL_NETLINK, NETLINK_CAP_ACK, in on, sizeof(int));
        _ = Libc.SetSocketOption(_fd, SOL_NETLINK, NETLINK_EXT_ACK, in on, sizeof(int));
    }

    public void Dispose() => _ = Libc.Close(_fd);

    /// <summary>An interface and its VFs; null when there is no such interface.</summary>
    public LinkVfs? Read(string interfaceName, bool withTraffic = false)
    {
        uint number = ++_sequence;
        Send(VfMessages.GetLink(interfaceName, number, withTraffic), interfaceName);
        (int? errno, string? said, LinkVfs? link) = Answer(number, interfaceName);
        return errno switch
        {
            null or 0 => link,
            Errnos.ENODEV => null,
            _ => throw Refused($"read the VF settings of {interfaceName}", interfaceName, errno.Value, said),
        };
    }

    /// <summary>Makes a VF's settings so: only what differs is set, one at a time, and all are tried.</summary>
    /// <exception cref="HostIoException">What the kernel refused, or that the PF's driver says nothing of this VF.</exception>
    public void Write(string interfaceName, int vf, VfSettings settings)
    {
        if (Read(interfaceName) is not { } link)
        {
            throw new HostIoException(
                "set VF settings of",
                interfaceName,
                Errnos.ENODEV,
                $"There is no network interface {interfaceName} to set VF {vf} by."
            );
        }

        if (!link.Vfs.TryGetValue(vf, out VfSettings? current))
        {
            throw new HostIoException(
                "set VF settings of",
                interfaceName,
                Errnos.EAGAIN,
                $"The driver of {interfaceName} does not show the settings of VF {vf} now."
            );
        }

        HostIoException? refusal = null;
        foreach (VfAttribute attribute in VfMessages.Changes(vf, current, settings))
        {
            uint number = ++_sequence;
            Send(VfMessages.SetVf(link.Index, attribute, number), interfaceName);
            (int? errno, string? said, _) = Answer(number, interfaceName);
            if (errno is { } failed and not 0)
            {
                HostIoException failure = Refused($"ip link set {interfaceName} vf {vf} {attribute.Name}", interfaceName, failed, said);
                refusal = refusal is null
                    ? failure
                    : new HostIoException(refusal.Operation, interfaceName, refusal.Errno, $"{refusal.Message} {failure.Message}");
            }
        }

        if (refusal is not null)
            throw refusal;
    }

    private static HostIoException Refused(string operation, string interfaceName, int errno, string? said) =>
        new(
            operation,
            interfaceName,
            errno,
            $"{operation}: {Errnos.Name(errno)} ({(string.IsNullOrEmpty(said) ? Errnos.Text(errno) : said)})."
        );

    private unsafe void Send(byte[] message, string interfaceName)
    {
        nint n;
        do
        {
            fixed (byte* p = message)
                n = Libc.Write(_fd, p, (nuint)message.Length);
        } while (n < 0 && Marshal.GetLastPInvokeError() == Errnos.EINTR);
        if (n < 0)
            throw new HostIoException("ask the kernel by rtnetlink about", interfaceName, Marshal.GetLastPInvokeError());
    }

    private (int? Errno, string? Said, LinkVfs? Link) Answer(uint number, string interfaceName)
    {
        while (true)
        {
            byte[] datagram = Receive(interfaceName);
            if (VfMessages.TryParseAnswer(datagram, number, out int? errno, out string? said, out LinkVfs? link))
                return (errno, said, link);
        }
    }

    /// <summary>One datagram of any length: an interface with 64 VFs doesn't fit the usual 8 KiB.</summary>
    private unsafe byte[] Receive(string interfaceName)
    {
        byte[] buffer = [];
        while (true)
        {
            Libc.NetlinkAddress from = default;
            uint fromLength = 12;
            nint n;
            fixed (byte* p = buffer)
            {
                n = Libc.ReceiveFrom(
                    _fd,
                    p,
                    (nuint)buffer.Length,
                    (buffer.Length == 0 ? MSG_PEEK | MSG_TRUNC : MSG_TRUNC) | MSG_DONTWAIT,
                    ref from,
                    ref fromLength
                );
            }

            if (n < 0)
            {
                int errno = Marshal.GetLastPInvokeError();
                if (errno == Errnos.EINTR)
                    continue;
                throw new HostIoException("hear from the kernel by rtnetlink about", interfaceName, errno);
            }

            if (buffer.Length == 0)
                buffer = new byte[Math.Max((int)n, VfMessages.HeaderLength)];
            else if (from.Pid != 0)
                buffer = []; // not the kernel's
            else
                return buffer[..(int)Math.Min(n, buffer.Length)];
        }
    }
}
