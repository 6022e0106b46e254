using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>Which process has a device open: every /proc/PID/fd is compared by device number, whatever the name it was opened by.</summary>
internal sealed class OpenFiles(IHostFileSystem files)
{
    private const int DeepestFolder = 10;

    /// <summary>The device nodes of a function and of everything on it (disks, NVMe characters, DRM, sound, USB, …), with their names.</summary>
    public Dictionary<DeviceNumber, string> NodesOf(PciAddress address)
    {
        var nodes = new Dictionary<DeviceNumber, string>();
        Collect(SysfsPaths.Device(address), nodes, 0);
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
        foreach (string pid in files.List("/proc"))
        {
            if (!char.IsAsciiDigit(pid[0]))
                continue;
            foreach (string fd in files.List($"/proc/{pid}/fd"))
            {
                string path = $"/proc/{pid}/fd/{fd}";
                if (files.ReadLink(path) is not { } target || !target.StartsWith('/'))
                    continue;
                if (bars.Any(bar => target.Contains(bar, StringComparison.Ordinal)))
                    return $"process {pid} ({Name(pid)}) has {target} open";
                if (nodes.Count > 0 && files.DeviceAt(path) is { } number && nodes.TryGetValue(number, out string? node))
                    return $"process {pid} ({Name(pid)}) has {node} open";
            }
        }

        return null;
    }

    private string Name(string pid) => files.ReadText($"/proc/{pid}/comm") ?? "gone";

    private void Collect(string folder, Dictionary<DeviceNumber, string> nodes, int depth)
    {
        if (depth > 0 && files.ReadText($"{folder}/dev")?.Split(':') is [var major, var minor]
            && uint.TryParse(major, out uint a) && uint.TryParse(minor, out uint b))
        {
            bool block = SysfsPaths.LastName(files.ReadLink($"{folder}/subsystem")) == "block";
            nodes[new DeviceNumber(block, a, b)] = $"{SysfsPaths.LastName(folder)}";
        }

        if (depth == DeepestFolder)
            return;
        foreach (string name in files.ListFolders(folder))
        {
            if (name is not ("power" or "msi_irqs" or "statistics" or "queues") && !PciAddress.TryParse(name, out _))
                Collect($"{folder}/{name}", nodes, depth + 1);
        }
    }
}
