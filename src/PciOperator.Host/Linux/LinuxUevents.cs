using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading.Channels;

namespace PciOperator.Host;

/// <summary>
/// The kernel's uevents by netlink (NETLINK_KOBJECT_UEVENT, group 1). Only the kernel's own messages (sender nl_pid 0)
/// count: any process may send to the group. The socket hears the events of its network namespace's owner: host network.
/// </summary>
public sealed class LinuxUevents : IUeventSource
{
    private const int AF_NETLINK = 16;
    private const int SOCK_DGRAM = 2;
    private const int SOCK_CLOEXEC = 0x80000;
    private const int NETLINK_KOBJECT_UEVENT = 15;
    private const int SOL_SOCKET = 1;
    private const int SO_RCVBUF = 8;
    private const int SO_RCVBUFFORCE = 33;
    private const int MSG_DONTWAIT = 0x40;
    private const short POLLIN = 1;
    private const int EAGAIN = 11;
    private const int ReceiveBuffer = 8 << 20;
    private const int Forever = -1;

    /// <inheritdoc/>
    /// <exception cref="HostIoException">The socket can't be made.</exception>
    public async IAsyncEnumerable<Uevent> ReadAsync([EnumeratorCancellation] CancellationToken ct)
    {
        int fd = Open();
        int stop = Libc.EventDescriptor(0, Libc.O_CLOEXEC);
        if (stop < 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            _ = Libc.Close(fd);
            throw new HostIoException("open", "eventfd", errno);
        }

        var events = Channel.CreateUnbounded<Uevent>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });
        var reader = new Thread(() => Receive(fd, stop, events.Writer)) { IsBackground = true, Name = "uevents" };
        reader.Start();
        try
        {
            await foreach (Uevent uevent in events.Reader.ReadAllAsync(ct))
                yield return uevent;
        }
        finally
        {
            Stop(stop);
            reader.Join();
            _ = Libc.Close(fd);
            _ = Libc.Close(stop);
        }
    }

    /// <summary>Parses one datagram ("action@devpath\0KEY=VALUE\0…"); null when it isn't a kernel's message.</summary>
    public static Uevent? Parse(ReadOnlySpan<byte> datagram)
    {
        int headerEnd = datagram.IndexOf((byte)0);
        if (headerEnd <= 0 || datagram[..headerEnd].IndexOf((byte)'@') < 0)
            return null;
        string? action = null,
            devPath = null,
            subsystem = null,
            slot = null;
        foreach (Range range in datagram.Split((byte)0))
        {
            ReadOnlySpan<byte> field = datagram[range];
            int equals = field.IndexOf((byte)'=');
            if (equals <= 0)
                continue;
            ReadOnlySpan<byte> key = field[..equals];
            ReadOnlySpan<byte> value = field[(equals + 1)..];
            if (key.SequenceEqual("ACTION"u8))
                action = Encoding.UTF8.GetString(value);
            else if (key.SequenceEqual("DEVPATH"u8))
                devPath = Encoding.UTF8.GetString(value);
            else if (key.SequenceEqual("SUBSYSTEM"u8))
                subsystem = Encoding.UTF8.GetString(value);
            else if (key.SequenceEqual("PCI_SLOT_NAME"u8))
                slot = Encoding.UTF8.GetString(value);
        }

        return action is null || devPath is null || subsystem is null
            ? null
            : new Uevent
            {
                Action = action,
                DevPath = devPath,
                Subsystem = subsystem,
                PciSlotName = slot,
            };
    }

    private static int Open()
    {
        int fd = Libc.Socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
        if (fd < 0)
            throw new HostIoException("open", "netlink uevent socket", Marshal.GetLastPInvokeError());
        int size = ReceiveBuffer;
        if (Libc.SetSocketOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, in size, sizeof(int)) != 0)
            _ = Libc.SetSocketOption(fd, SOL_SOCKET, SO_RCVBUF, in size, sizeof(int));
        var address = new Libc.NetlinkAddress { Family = AF_NETLINK, Groups = 1 };
        if (Libc.Bind(fd, in address, 12) == 0)
            return fd;
        int errno = Marshal.GetLastPInvokeError();
        _ = Libc.Close(fd);
        throw new HostIoException("bind", "netlink uevent socket", errno);
    }

    private static unsafe void Stop(int stop)
    {
        ulong one = 1;
        _ = Libc.Write(stop, (byte*)&one, sizeof(ulong));
    }

    /// <summary>Sleeps in the kernel until there is something to hear, or <paramref name="stop"/> can be read.</summary>
    private static unsafe void Receive(int fd, int stop, ChannelWriter<Uevent> events)
    {
        byte[] buffer = new byte[64 << 10];
        Libc.PollEntry* poll = stackalloc Libc.PollEntry[2];
        poll[0] = new Libc.PollEntry { Descriptor = fd, Events = POLLIN };
        poll[1] = new Libc.PollEntry { Descriptor = stop, Events = POLLIN };
        try
        {
            while (true)
            {
                if (Libc.Poll(poll, 2, Forever) < 0)
                {
                    int failure = Marshal.GetLastPInvokeError();
                    if (failure != Errnos.EINTR)
                        throw new HostIoException("poll", "netlink uevent socket", failure);
                    continue;
                }

                if (poll[1].Returned != 0)
                    break;
                Libc.NetlinkAddress from = default;
                uint fromLength = 12;
                nint n;
                fixed (byte* p = buffer)
                    n = Libc.ReceiveFrom(fd, p, (nuint)buffer.Length, MSG_DONTWAIT, ref from, ref fromLength);
                int errno = n < 0 ? Marshal.GetLastPInvokeError() : 0;
                if (errno == Errnos.ENOBUFS)
                    events.TryWrite(Uevent.Lost);
                else if (n < 0 && errno is not (EAGAIN or Errnos.EINTR))
                    throw new HostIoException("receive from", "netlink uevent socket", errno);
                else if (n > 0 && from.Pid == 0 && Parse(buffer.AsSpan(0, (int)n)) is { } uevent)
                    events.TryWrite(uevent);
            }

            events.TryComplete();
        }
        catch (HostIoException e)
        {
            events.TryComplete(e);
        }
    }
}
