using System.Text;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Which process has a device open or mapped: every /proc/PID/fd is compared by device number, whatever the name it was opened by, and
/// /proc/PID/maps by name, since what is mapped may be closed. The agent itself doesn't count.
/// </summary>
internal sealed class OpenFiles(IHostFileSystem files)
{
    /// <summary>USB hubs and SAS expanders nest; no link is followed, so that nothing goes in circles.</summary>
    private const int DeepestFolder = 32;

    /// <summary>The character device of NVIDIA's own driver, which sysfs doesn't show.</summary>
    private const uint NvidiaMajor = 195;

    /// <summary>The device nodes of a function and of everything on it (disks, NVMe and RDMA characters, DRM, sound, USB, …), with their names.</summary>
    public Dictionary<DeviceNumber, string> NodesOf(PciAddress address)
    {
        var nodes = new Dictionary<DeviceNumber, string>();
        string device = SysfsPaths.Device(address);
        Collect(device, nodes, 0);

        // With NVMe's native multipath the namespaces' nodes (nvme0n1, ng0n1) are below a subsystem instead.
        if (files.ListFolders($"{device}/nvme").Count > 0)
        {
            foreach (string name in files.List("/sys/class/nvme-subsystem"))
            {
                if (files.ReadLink($"/sys/class/nvme-subsystem/{name}") is { } path && HostDisks.ControllersOf(files, path).Contains(address))
                    Collect($"/sys/class/nvme-subsystem/{name}", nodes, 0);
            }
        }

        if (files.ReadText($"/proc/driver/nvidia/gpus/{address}/information")?.Split('\n').FirstOrDefault(l => l.StartsWith("Device Minor:", StringComparison.Ordinal)) is { } line
            && uint.TryParse(line.AsSpan("Device Minor:".Length).Trim(), out uint minor))
            nodes[new DeviceNumber(false, NvidiaMajor, minor)] = $"/dev/nvidia{minor}";
        return nodes;
    }

    /// <summary>The VFIO nodes of a function: its group's and its own.</summary>
    public Dictionary<DeviceNumber, string> VfioNodesOf(PciAddress address, int? group)
    {
        var nodes = new Dictionary<DeviceNumber, string>();
        string?[] paths = [group is { } g ? SysfsPaths.GroupNode(g) : null, Inventory.VfioDevice(files, address)];
        foreach (string path in paths.OfType<string>())
        {
            if (files.DeviceAt(path) is { } number)
                nodes[number] = path;
        }

        return nodes;
    }

    /// <summary>"process 4242 (qemu-system-x86) has /dev/vfio/13 open"; null when none has any of them.</summary>
    /// <param name="nodes">Device nodes that nobody may have open, with their names.</param>
    /// <param name="functions">Functions whose BARs (resourceN files) nobody may have open either.</param>
    public string? FindUser(IReadOnlyDictionary<DeviceNumber, string> nodes, IReadOnlyCollection<PciAddress> functions)
    {
        if (nodes.Count == 0 && functions.Count == 0)
            return null;
        string[] bars = [.. functions.Select(f => $"/{f}/resource")];
        string[] names = [.. bars.Concat(nodes.Values.Where(n => n.StartsWith('/')))];
        string? self = files.ReadLink("/proc/self");
        foreach (string pid in files.List("/proc"))
        {
            if (!char.IsAsciiDigit(pid[0]) || pid == self)
                continue;
            if ((Open(pid, nodes, functions, bars) ?? Mapped(pid, names)) is { } user)
                return $"process {pid} ({files.ReadText($"/proc/{pid}/comm") ?? "gone"}) has {user}";
        }

        return null;
    }

    private string? Open(string pid, IReadOnlyDictionary<DeviceNumber, string> nodes, IReadOnlyCollection<PciAddress> functions, string[] bars)
    {
        foreach (string fd in files.List($"/proc/{pid}/fd"))
        {
            string path = $"/proc/{pid}/fd/{fd}";
            if (files.ReadLink(path) is not { } target)
                continue;

            // A VFIO device that outlives its group's file: since Linux 6.17 the kernel says which.
            if (functions.Count > 0 && target.Contains("[vfio-device]", StringComparison.Ordinal)
                && files.ReadText($"/proc/{pid}/fdinfo/{fd}") is { } info
                && functions.FirstOrDefault(f => info.Contains($"/{f}\n", StringComparison.Ordinal) || info.EndsWith($"/{f}", StringComparison.Ordinal)) is var function
                && functions.Contains(function))
                return $"{function} open through VFIO";
            if (!target.StartsWith('/'))
                continue;
            if (bars.Any(bar => target.Contains(bar, StringComparison.Ordinal)))
                return $"{target} open";
            if (nodes.Count > 0 && files.DeviceAt(path) is { } number && nodes.TryGetValue(number, out string? node))
                return $"{node} open";
        }

        return null;
    }

    private string? Mapped(string pid, string[] names)
    {
        // "7f0000000000-7f0000001000 rw-s 00000000 00:16 4711     /sys/devices/pci0000:00/0000:00:02.0/resource0"
        if (names.Length == 0 || files.ReadBytes($"/proc/{pid}/maps", int.MaxValue) is not { } maps
            || (maps.AsSpan().IndexOf("/resource"u8) < 0 && maps.AsSpan().IndexOf("/dev/"u8) < 0))
            return null;
        foreach (string line in Encoding.UTF8.GetString(maps).Split('\n'))
        {
            int at = line.IndexOf('/', StringComparison.Ordinal);
            string path = at < 0 ? "" : line[at..];
            if (names.Any(name => name.StartsWith("/dev/", StringComparison.Ordinal) ? path == name : path.Contains(name, StringComparison.Ordinal)))
                return $"{path} mapped";
        }

        return null;
    }

    private void Collect(string folder, Dictionary<DeviceNumber, string> nodes, int depth)
    {
        if (depth > 0 && files.ReadText($"{folder}/dev")?.Split(':') is [var major, var minor]
            && uint.TryParse(major, out uint a) && uint.TryParse(minor, out uint b))
        {
            bool block = SysfsPaths.LastName(files.ReadLink($"{folder}/subsystem")) == "block";
            string? name = files.ReadText($"{folder}/uevent")?.Split('\n').FirstOrDefault(l => l.StartsWith("DEVNAME=", StringComparison.Ordinal))?["DEVNAME=".Length..];
            nodes[new DeviceNumber(block, a, b)] = $"/dev/{name ?? SysfsPaths.LastName(folder)!.Replace('!', '/')}";
        }

        if (depth == DeepestFolder)
            return;
        foreach (string name in files.ListFolders(folder))
        {
            if (name is not ("power" or "msi_irqs" or "statistics" or "queues"))
                Collect($"{folder}/{name}", nodes, depth + 1);
        }
    }
}
