using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>The nodes by which processes can have a device open: <see cref="ProcessFiles"/> says who has.</summary>
internal sealed class DeviceNodes(IHostFileSystem files)
{
    /// <summary>USB hubs and SAS expanders nest; no link is followed, so that nothing goes in circles.</summary>
    private const int DeepestFolder = 32;

    /// <summary>The character device of NVIDIA's own driver, which sysfs doesn't show.</summary>
    private const uint NvidiaMajor = 195;

    /// <summary>
    /// The device nodes of a function and of everything on it (disks, NVMe and RDMA characters, DRM, sound, USB, …), with their names.
    /// </summary>
    public Dictionary<DeviceNumber, string> Of(PciAddress address)
    {
        var nodes = new Dictionary<DeviceNumber, string>();
        string device = SysfsPaths.Device(address);
        Collect(device, nodes, 0);

        // With NVMe's native multipath the namespaces' nodes (nvme0n1, ng0n1) are below a subsystem instead.
        if (files.ListFolders($"{device}/nvme").Count > 0)
        {
            foreach (string name in files.List("/sys/class/nvme-subsystem"))
            {
                if (
                    files.ReadLink($"/sys/class/nvme-subsystem/{name}") is { } path
                    && HostDisks.ControllersOf(files, path).Contains(address)
                )
                {
                    Collect($"/sys/class/nvme-subsystem/{name}", nodes, 0);
                }
            }
        }

        if (
            files
                .ReadText($"/proc/driver/nvidia/gpus/{address}/information")
                ?.Split('\n')
                .FirstOrDefault(l => l.StartsWith("Device Minor:", StringComparison.Ordinal))
                is { } line
            && uint.TryParse(line.AsSpan("Device Minor:".Length).Trim(), out uint minor)
        )
        {
            nodes[new DeviceNumber(false, NvidiaMajor, minor)] = $"/dev/nvidia{minor}";
        }

        return nodes;
    }

    /// <summary>The VFIO nodes of a function: its group's and its own.</summary>
    public Dictionary<DeviceNumber, string> VfioOf(PciAddress address, int? group)
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

    private void Collect(string folder, Dictionary<DeviceNumber, string> nodes, int depth)
    {
        if (
            depth > 0
            && files.ReadText($"{folder}/dev")?.Split(':') is [var major, var minor]
            && uint.TryParse(major, out uint a)
            && uint.TryParse(minor, out uint b)
        )
        {
            bool block = SysfsPaths.LastName(files.ReadLink($"{folder}/subsystem")) == "block";
            string? name = files
                .ReadText($"{folder}/uevent")
                ?.Split('\n')
                .FirstOrDefault(l => l.StartsWith("DEVNAME=", StringComparison.Ordinal))
                ?["DEVNAME=".Length..];
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
