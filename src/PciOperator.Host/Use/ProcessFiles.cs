using System.Text;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// What the processes have open or mapped of devices: of every /proc/PID/fd the device number, whatever the name it was opened
/// by, and of /proc/PID/maps the name, since what is mapped may be closed. The agent itself doesn't count.
/// </summary>
internal sealed class ProcessFiles
{
    private const string VfioDevice = "[vfio-device]";

    private readonly List<Process> _processes = [];

    private ProcessFiles() { }

    /// <summary>Looks at all of them.</summary>
    public static ProcessFiles Read(IHostFileSystem files)
    {
        var found = new ProcessFiles();
        foreach (string pid in ProcessFolder.All(files))
        {
            if (ProcessFolder.Read(files, pid, () => Of(files, pid)) is { } process)
                found._processes.Add(process);
        }

        return found;
    }

    /// <summary>Null when it has nothing open or mapped that matters.</summary>
    private static Process? Of(IHostFileSystem files, string pid)
    {
        // Without memory of its own: one of the kernel's threads, or what is left of a process that has ended, whose other threads may
        // live.
        string folder = $"/proc/{pid}";
        byte[]? maps = files.ReadBytes($"{folder}/maps", int.MaxValue);
        if (maps is { Length: 0 })
        {
            if (ProcessFolder.Living(files, pid).FirstOrDefault() is not { } living)
                return null;
            maps = files.ReadBytes($"{folder = living}/maps", int.MaxValue);
        }

        List<OpenFile> open = Open(files, folder);
        List<string> mapped = Mapped(maps);
        return open.Count + mapped.Count > 0 ? new Process(pid, files.ReadText($"/proc/{pid}/comm") ?? "gone", open, mapped) : null;
    }

    /// <summary>"process 4242 (qemu-system-x86) has /dev/vfio/13 open"; null when none has any of them.</summary>
    /// <param name="nodes">Device nodes that nobody may have open, with their names.</param>
    /// <param name="functions">Functions whose BARs (resourceN files) nobody may have open either.</param>
    public string? FindUser(IReadOnlyDictionary<DeviceNumber, string> nodes, IReadOnlyCollection<PciAddress> functions)
    {
        string[] bars = [.. functions.Select(f => $"/{f}/resource")];
        string[] names = [.. bars.Concat(nodes.Values.Where(n => n.StartsWith('/')))];
        foreach (Process process in _processes)
        {
            string? user = process.Open.Select(file => Use(file, nodes, functions, bars)).FirstOrDefault(use => use is not null);
            user ??= process.Mapped.FirstOrDefault(path =>
                names.Any(name =>
                    name.StartsWith("/dev/", StringComparison.Ordinal) ? path == name : path.Contains(name, StringComparison.Ordinal)
                )
            )
                is { } mapping
                ? $"{mapping} mapped"
                : null;
            if (user is not null)
                return $"process {process.Pid} ({process.Name}) has {user}";
        }

        return null;
    }

    private static string? Use(
        OpenFile file,
        IReadOnlyDictionary<DeviceNumber, string> nodes,
        IReadOnlyCollection<PciAddress> functions,
        string[] bars
    )
    {
        // A VFIO device that outlives its group's file: since Linux 6.17 the kernel says which.
        if (file.VfioInfo is { } info)
        {
            foreach (PciAddress function in functions)
            {
                if (info.Contains($"/{function}\n", StringComparison.Ordinal) || info.EndsWith($"/{function}", StringComparison.Ordinal))
                    return $"{function} open through VFIO";
            }
        }

        if (bars.Any(bar => file.Path.Contains(bar, StringComparison.Ordinal)))
            return $"{file.Path} open";
        return file.Node is { } number && nodes.TryGetValue(number, out string? node) ? $"{node} open" : null;
    }

    private static List<OpenFile> Open(IHostFileSystem files, string folder)
    {
        var open = new List<OpenFile>();
        foreach (string fd in files.List($"{folder}/fd"))
        {
            string path = $"{folder}/fd/{fd}";
            if (files.ReadLink(path) is not { } target)
                continue;
            if (target.Contains(VfioDevice, StringComparison.Ordinal) && files.ReadText($"{folder}/fdinfo/{fd}") is { } info)
            {
                open.Add(new OpenFile(target, null, info));
            }
            else if (
                target.StartsWith('/')
                && (files.DeviceAt(path) is var node && node is not null || target.Contains("/resource", StringComparison.Ordinal))
            )
            {
                open.Add(new OpenFile(target, node, null));
            }
        }

        return open;
    }

    private static List<string> Mapped(byte[]? maps)
    {
        // "7f0000000000-7f0000001000 rw-s 00000000 00:16 4711     /sys/devices/pci0000:00/0000:00:02.0/resource0"
        if (maps is null || (maps.AsSpan().IndexOf("/resource"u8) < 0 && maps.AsSpan().IndexOf("/dev/"u8) < 0))
            return [];
        return
        [
            .. Encoding
                .UTF8.GetString(maps)
                .Split('\n')
                .Select(line => line.IndexOf('/', StringComparison.Ordinal) is var at && at < 0 ? "" : line[at..])
                .Where(path => path.Contains("/resource", StringComparison.Ordinal) || path.StartsWith("/dev/", StringComparison.Ordinal))
                .Distinct(StringComparer.Ordinal),
        ];
    }

    /// <param name="Pid">"4242".</param>
    /// <param name="Name">"qemu-system-x86".</param>
    /// <param name="Open">Device nodes, BARs and VFIO devices that it has open.</param>
    /// <param name="Mapped">Device nodes and BARs that it has mapped.</param>
    private sealed record Process(string Pid, string Name, IReadOnlyList<OpenFile> Open, IReadOnlyList<string> Mapped);

    /// <param name="Path">As the kernel names what is open.</param>
    /// <param name="Node">Its number when it is a device node.</param>
    /// <param name="VfioInfo">What the kernel says of a VFIO device.</param>
    private sealed record OpenFile(string Path, DeviceNumber? Node, string? VfioInfo);
}
