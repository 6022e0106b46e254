using PciOperator.Api;
using PciOperator.Cli.Cluster;
using PciOperator.Cli.Output;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace PciOperator.Cli.See;

/// <summary>A node as a tree: sockets, NUMA nodes, root buses, devices, and VFs under their PFs.</summary>
internal static class NodeTopology
{
    /// <summary>Draws it; a NUMA node without devices is there, too.</summary>
    public static Tree Draw(PciNode node, IReadOnlyList<DeviceView> devices)
    {
        var tree = new Tree(Heading(node.Metadata.Name, devices));
        var numaNodes = (node.Status?.NumaNodes ?? []).ToDictionary(n => n.Id, n => n.Socket);
        foreach (DeviceView device in devices)
        {
            if (device.NumaNode is { } numa)
                numaNodes.TryAdd(numa, device.Socket);
        }

        foreach (
            IGrouping<int?, int> socket in numaNodes
                .OrderBy(n => n.Key)
                .GroupBy(n => n.Value, n => n.Key)
                .OrderBy(g => g.Key ?? int.MaxValue)
        )
        {
            DeviceView[] here = [.. devices.Where(d => d.NumaNode is { } numa && socket.Contains(numa))];
            TreeNode under = tree.AddNode(Heading(socket.Key is null ? "socket not known" : $"socket {socket.Key}", here));
            foreach (int numa in socket)
                Numa(under, $"NUMA node {numa}", [.. here.Where(d => d.NumaNode == numa)]);
        }

        DeviceView[] nowhere = [.. devices.Where(d => d.NumaNode is null)];
        if (nowhere.Length > 0)
            Numa(tree, "NUMA node not known", nowhere);
        return tree;
    }

    private static void Numa(IHasTreeNodes parent, string name, DeviceView[] devices)
    {
        TreeNode numa = parent.AddNode(Heading(name, devices));
        HashSet<string> addresses = [.. devices.Select(d => d.Address)];
        foreach (IGrouping<string?, DeviceView> root in devices.GroupBy(d => d.PcieRoot).OrderBy(g => g.Key, StringComparer.Ordinal))
        {
            TreeNode under = numa.AddNode(Heading(root.Key is null ? "root bus not known" : $"root {root.Key}", [.. root]));
            ILookup<string?, DeviceView> vfs = root.ToLookup(d => d.ParentAddress is { } pf && addresses.Contains(pf) ? pf : null);
            foreach (DeviceView device in vfs[null])
            {
                TreeNode at = under.AddNode(Line(device));
                foreach (DeviceView vf in vfs[device.Address])
                    at.AddNode(Line(vf));
            }
        }
    }

    private static IRenderable Heading(string name, IReadOnlyList<DeviceView> devices)
    {
        int offered = devices.Count(d => d.Spec is not null);
        int free = devices.Count(d => d.Spec is not null && d.IsFree);
        return Printer.Phrase(
            (name, Tone.Heading),
            (offered == 0 ? "  no devices" : $"  {free} of {offered} free", free > 0 ? Tone.Good : Tone.Faint)
        );
    }

    private static IRenderable Line(DeviceView device) =>
        Printer.Phrase(
            ($"{device.Address}  ", Tone.Plain),
            (device.State, device.Tone),
            (device.Claim is null ? "" : $" {device.Claim}", Tone.Busy),
            ($"  {DeviceNames.Short(device.Name)}", Tone.Plain),
            (device.IommuGroup is null ? "  no IOMMU group" : $"  group {device.IommuGroup}", Tone.Faint)
        );
}
