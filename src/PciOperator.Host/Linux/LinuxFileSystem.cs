using System.Buffers;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>The real host, or a folder that looks like one.</summary>
/// <param name="root">Where the host's "/" is seen: "/" itself, or for example "/host" in a container.</param>
public sealed class LinuxFileSystem(string root = "/") : IHostFileSystem
{
    private const int LargestText = 16 << 20;

    // Modes: 0600 and 0700; 0644 and 0755.
    private const int OwnFile = 0x180;
    private const int OwnFolder = 0x1c0;
    private const int CommonFile = 0x1a4;
    private const int CommonFolder = 0x1ed;
    private static readonly TimeSpan ModprobeTimeout = TimeSpan.FromSeconds(60);
    private readonly string _prefix = root.TrimEnd('/');

    /// <inheritdoc/>
    public bool Exists(string path) => Libc.Access(At(path), 0) == 0;

    /// <inheritdoc/>
    public string? ReadText(string path)
    {
        byte[]? bytes = ReadBytes(path, LargestText);
        if (bytes is null)
            return null;
        int length = bytes.Length > 0 && bytes[^1] == '\n' ? bytes.Length - 1 : bytes.Length;
        return Encoding.UTF8.GetString(bytes, 0, length);
    }

    /// <inheritdoc/>
    public unsafe byte[]? ReadBytes(string path, int max)
    {
        int fd = Libc.Open(At(path), Libc.O_RDONLY | Libc.O_CLOEXEC | Libc.O_NONBLOCK, 0);
        if (fd < 0)
            return Absent<byte[]>("read", path, Marshal.GetLastPInvokeError());
        byte[] buffer = ArrayPool<byte>.Shared.Rent(Math.Min(max, 4096));
        try
        {
            int length = 0;
            while (length < max)
            {
                if (length == buffer.Length)
                {
                    byte[] larger = ArrayPool<byte>.Shared.Rent(buffer.Length * 2);
                    buffer.AsSpan(0, length).CopyTo(larger);
                    ArrayPool<byte>.Shared.Return(buffer);
                    buffer = larger;
                }

                nint n;
                fixed (byte* p = buffer)
                    n = Libc.Read(fd, p + length, (nuint)Math.Min(max - length, buffer.Length - length));
                if (n == 0)
                    break;
                if (n < 0)
                {
                    int errno = Marshal.GetLastPInvokeError();
                    if (errno == Errnos.EINTR)
                        continue;
                    return Absent<byte[]>("read", path, errno);
                }

                length += (int)n;

                // An attribute of sysfs comes whole; /proc gives its files in pieces.
                if (length < buffer.Length && path.StartsWith("/sys/", StringComparison.Ordinal))
                    break;
            }

            return buffer[..length];
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
            _ = Libc.Close(fd);
        }
    }

    /// <inheritdoc/>
    [SkipLocalsInit]
    public unsafe string? ReadLink(string path)
    {
        const int size = 4096;
        byte* buffer = stackalloc byte[size];
        nint n = Libc.ReadLink(At(path), buffer, size);
        if (n >= 0)
            return Encoding.UTF8.GetString(buffer, (int)n);
        int errno = Marshal.GetLastPInvokeError();
        return errno == Errnos.EINVAL ? null : Absent<string>("readlink", path, errno);
    }

    /// <inheritdoc/>
    public IReadOnlyList<string> List(string path) => Names(path, foldersOnly: false);

    /// <inheritdoc/>
    public IReadOnlyList<string> ListFolders(string path) => Names(path, foldersOnly: true);

    /// <inheritdoc/>
    public unsafe void Write(string path, string value)
    {
        int fd = Libc.Open(At(path), Libc.O_WRONLY | Libc.O_CLOEXEC, 0);
        if (fd < 0)
            throw new HostIoException($"write '{value.TrimEnd('\n')}' to", path, Marshal.GetLastPInvokeError());
        try
        {
            byte[] bytes = Encoding.UTF8.GetBytes(value);
            nint n;
            fixed (byte* p = bytes)
                n = Libc.Write(fd, p, (nuint)bytes.Length);
            if (n < 0)
                throw new HostIoException($"write '{value.TrimEnd('\n')}' to", path, Marshal.GetLastPInvokeError());
        }
        finally
        {
            _ = Libc.Close(fd);
        }
    }

    /// <inheritdoc/>
    public void WriteDurably(string path, ReadOnlySpan<byte> content) => WriteDurably(path, content, OwnFile, OwnFolder);

    /// <inheritdoc/>
    public void WriteForOthers(string path, ReadOnlySpan<byte> content) => WriteDurably(path, content, CommonFile, CommonFolder);

    /// <inheritdoc/>
    public void DeleteEmptyFolder(string path)
    {
        if (Libc.RemoveFolder(At(path)) == 0)
            SyncFolder(Path.GetDirectoryName(path)!);
        else if (Marshal.GetLastPInvokeError() is var errno and not (Errnos.ENOTEMPTY or Errnos.EEXIST) && !Errnos.IsAbsence(errno))
            throw new HostIoException("remove", path, errno);
    }

    private void WriteDurably(string path, ReadOnlySpan<byte> content, int fileMode, int folderMode)
    {
        string folder = Path.GetDirectoryName(path)!;
        MakeFolder(folder, folderMode);
        string temporary = $"{path}.{Environment.CurrentManagedThreadId}.tmp";
        try
        {
            WriteAll(temporary, content, fileMode);
            if (Libc.Rename(At(temporary), At(path)) != 0)
                throw new HostIoException("rename to", path, Marshal.GetLastPInvokeError());
        }
        catch (HostIoException)
        {
            _ = Libc.Unlink(At(temporary));
            throw;
        }

        SyncFolder(folder);
    }

    /// <inheritdoc/>
    public void Delete(string path)
    {
        if (Libc.Unlink(At(path)) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno is Errnos.ENOENT or Errnos.ENOTDIR)
                return;
            throw new HostIoException("delete", path, errno);
        }

        SyncFolder(Path.GetDirectoryName(path)!);
    }

    /// <inheritdoc/>
    public string? TakeFolder(string folder) => FolderLock.Take(At(folder), () => MakeFolder(folder, OwnFolder));

    /// <inheritdoc/>
    public DeviceNumber? DeviceAt(string path)
    {
        DeviceNumber? number = Libc.DeviceAt(At(path), out int errno);
        return errno == 0 || Errnos.IsAbsence(errno) ? number : throw new HostIoException("stat", path, errno);
    }

    /// <inheritdoc/>
    public IDisposable? ClaimBlockDevice(string node)
    {
        int fd = Libc.Open(At(node), Libc.O_RDONLY | Libc.O_EXCL | Libc.O_NONBLOCK | Libc.O_CLOEXEC, 0);
        if (fd >= 0)
            return new SafeFileHandle(fd, ownsHandle: true);
        int errno = Marshal.GetLastPInvokeError();
        return errno == Errnos.EBUSY ? null : throw new HostIoException("open", node, errno);
    }

    /// <inheritdoc/>
    public DeviceNumber? LoopedDevice(string node)
    {
        int fd = Libc.Open(At(node), Libc.O_RDONLY | Libc.O_NONBLOCK | Libc.O_CLOEXEC, 0);
        if (fd < 0)
        {
            return Errnos.IsAbsence(Marshal.GetLastPInvokeError())
                ? null
                : throw new HostIoException("open", node, Marshal.GetLastPInvokeError());
        }

        try
        {
            DeviceNumber? number = Libc.LoopedDevice(fd, out int errno);
            return errno is 0 or Errnos.ENXIO ? number : throw new HostIoException("ask for the backing device of", node, errno);
        }
        finally
        {
            _ = Libc.Close(fd);
        }
    }

    /// <inheritdoc/>
    public HostNetwork ReadNetwork() => Rtnetlink.Read();

    /// <inheritdoc/>
    /// <remarks>In a container (another mount namespace than PID 1's) modprobe runs in the host's root, /proc/1/root.</remarks>
    public void LoadModule(string name)
    {
        string hostRoot = _prefix.Length > 0 ? _prefix : "/proc/1/root";
        bool inHost = _prefix.Length == 0 && ReadLink("/proc/self/ns/mnt") == ReadLink("/proc/1/ns/mnt");
        var start = new ProcessStartInfo(inHost ? "modprobe" : "chroot")
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
            RedirectStandardInput = true,
            UseShellExecute = false,
        };
        if (!inHost)
        {
            start.ArgumentList.Add(hostRoot);
            start.ArgumentList.Add("modprobe");
        }

        start.ArgumentList.Add("--");
        start.ArgumentList.Add(name);
        start.Environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin";
        try
        {
            using Process process = Process.Start(start)!;
            Task<string> output = process.StandardOutput.ReadToEndAsync();
            Task<string> error = process.StandardError.ReadToEndAsync();
            if (!process.WaitForExit(ModprobeTimeout))
            {
                process.Kill();
                throw new HostIoException(
                    "modprobe",
                    name,
                    Errnos.ETIMEDOUT,
                    $"modprobe {name} did not end within {ModprobeTimeout.TotalSeconds:0} s."
                );
            }

            process.WaitForExit();
            if (process.ExitCode != 0)
            {
                string said = $"{error.GetAwaiter().GetResult()} {output.GetAwaiter().GetResult()}".Trim().ReplaceLineEndings(" ");
                throw new HostIoException("modprobe", name, 0, $"modprobe {name} failed with exit code {process.ExitCode}: {said}");
            }
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new HostIoException(
                "modprobe",
                name,
                e.NativeErrorCode,
                $"{start.FileName} could not be run to load the kernel module {name}: {e.Message}"
            );
        }
    }

    /// <inheritdoc/>
    public VfSettings? ReadVfSettings(string pfInterface, int vf)
    {
        if (!SeesNetwork)
            return null;
        using var socket = new RouteSocket();
        return socket.Read(pfInterface)?.Vfs.GetValueOrDefault(vf);
    }

    /// <inheritdoc/>
    public IReadOnlyDictionary<int, VfTraffic> ReadVfTraffic(string pfInterface)
    {
        if (!SeesNetwork)
            return new Dictionary<int, VfTraffic>();
        using var socket = new RouteSocket();
        return socket.Read(pfInterface, withTraffic: true)?.Traffic ?? new Dictionary<int, VfTraffic>();
    }

    /// <inheritdoc/>
    public void WriteVfSettings(string pfInterface, int vf, VfSettings settings)
    {
        if (!SeesNetwork)
        {
            throw new HostIoException(
                "set VF settings of",
                pfInterface,
                Errnos.ENODEV,
                $"The network of {_prefix} can't be reached from here."
            );
        }

        using var socket = new RouteSocket();
        socket.Write(pfInterface, vf, settings);
    }

    /// <summary>A folder that only looks like a host has no network of its own: this machine's must not be taken for it.</summary>
    private bool SeesNetwork => _prefix.Length == 0 || Exists("/proc/self/ns/net");

    /// <inheritdoc/>
    public byte[] ReadConfigThroughVfio(PciAddress address, int group, int count)
    {
        using var device = VfioDevice.Open(address, [group], At(VfioDevice.Folder));
        return device.ReadConfig(count);
    }

    /// <inheritdoc/>
    public IReadOnlyList<PciAddress> HotResetTargets(PciAddress address, int group)
    {
        using var device = VfioDevice.Open(address, [group], At(VfioDevice.Folder));
        return device.HotResetTargets();
    }

    /// <inheritdoc/>
    public void HotReset(PciAddress address, IReadOnlyList<int> groups)
    {
        using var device = VfioDevice.Open(address, groups, At(VfioDevice.Folder));
        device.HotReset();
    }

    private string At(string path) =>
        path.StartsWith('/') ? _prefix + path : throw new ArgumentException($"'{path}' is not an absolute path.", nameof(path));

    private static T? Absent<T>(string operation, string path, int errno)
        where T : class => Errnos.IsAbsence(errno) ? null : throw new HostIoException(operation, path, errno);

    /// <summary>The kernel tells an entry's type with its name: none has to be looked at for it.</summary>
    [SkipLocalsInit]
    private unsafe string[] Names(string path, bool foldersOnly)
    {
        int fd = Libc.Open(At(path), Libc.O_RDONLY | Libc.O_DIRECTORY | Libc.O_NONBLOCK | Libc.O_CLOEXEC, 0);
        if (fd < 0)
            return Absent<string[]>("list", path, Marshal.GetLastPInvokeError()) ?? [];
        var names = new List<string>();
        const int size = 16 << 10;
        byte* buffer = stackalloc byte[size];
        try
        {
            nint length;
            while ((length = Libc.GetEntries(fd, buffer, size)) > 0)
            {
                for (nint at = 0; at < length; at += ((Libc.FolderEntry*)(buffer + at))->Length)
                {
                    var entry = (Libc.FolderEntry*)(buffer + at);
                    string name = Marshal.PtrToStringUTF8((nint)(buffer + at + Libc.FolderEntry.NameAt))!;
                    if (
                        name is not ("." or "..")
                        && (
                            !foldersOnly
                            || entry->Type == Libc.DT_DIR
                            || (entry->Type == Libc.DT_UNKNOWN && Libc.IsFolder(At($"{path}/{name}")))
                        )
                    )
                    {
                        names.Add(name);
                    }
                }
            }

            if (length < 0 && Marshal.GetLastPInvokeError() is var errno && !Errnos.IsAbsence(errno))
                throw new HostIoException("list", path, errno);
        }
        finally
        {
            _ = Libc.Close(fd);
        }

        names.Sort(StringComparer.Ordinal);
        return [.. names];
    }

    private unsafe void WriteAll(string path, ReadOnlySpan<byte> content, int mode)
    {
        int fd = Libc.Open(At(path), Libc.O_WRONLY | Libc.O_CREAT | Libc.O_TRUNC | Libc.O_CLOEXEC, mode);
        if (fd < 0)
            throw new HostIoException("create", path, Marshal.GetLastPInvokeError());
        try
        {
            // Whatever umask the program was started with: others have to read it.
            if (mode == CommonFile && Libc.ChangeMode(fd, mode) != 0)
                throw new HostIoException("make readable", path, Marshal.GetLastPInvokeError());
            while (content.Length > 0)
            {
                nint n;
                fixed (byte* p = content)
                    n = Libc.Write(fd, p, (nuint)content.Length);
                if (n < 0)
                {
                    int errno = Marshal.GetLastPInvokeError();
                    if (errno == Errnos.EINTR)
                        continue;
                    throw new HostIoException("write", path, errno);
                }

                content = content[(int)n..];
            }

            if (Libc.Fsync(fd) != 0)
                throw new HostIoException("fsync", path, Marshal.GetLastPInvokeError());
        }
        finally
        {
            _ = Libc.Close(fd);
        }
    }

    private void MakeFolder(string folder, int mode)
    {
        if (Exists(folder))
            return;
        string? parent = Path.GetDirectoryName(folder);
        if (parent is not null)
            MakeFolder(parent, mode);
        if (Libc.MakeFolder(At(folder), mode) != 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            if (errno != Errnos.EEXIST)
                throw new HostIoException("create", folder, errno);
        }

        if (parent is not null)
            SyncFolder(parent);
    }

    private void SyncFolder(string folder)
    {
        int fd = Libc.Open(At(folder), Libc.O_RDONLY | Libc.O_CLOEXEC, 0);
        if (fd < 0)
            throw new HostIoException("open", folder, Marshal.GetLastPInvokeError());
        try
        {
            if (Libc.Fsync(fd) != 0)
                throw new HostIoException("fsync", folder, Marshal.GetLastPInvokeError());
        }
        finally
        {
            _ = Libc.Close(fd);
        }
    }
}
