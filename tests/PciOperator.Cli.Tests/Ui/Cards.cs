using PciOperator.Cli.See;
using PciOperator.Cli.Ui;

namespace PciOperator.Cli.Tests.Ui;

/// <summary>Nodes of the page that no cluster has.</summary>
internal static class Cards
{
    /// <summary>A node of so many functions: PFs with 63 VFs each.</summary>
    public static NodeCard Node(string name, int functions, string text = "Ethernet Virtual Function")
    {
        DeviceView[] devices = [.. Enumerable.Range(0, functions).Select(i => Device(name, i, text))];
        return new NodeCard
        {
            Node = new NodeView
            {
                Name = name,
                Ready = "True",
                Devices = functions,
                Free = devices.Count(d => d.IsFree),
                Held = devices.Count(d => d.Claim is not null),
                Claims = 1,
            },
            Problems = [],
            NumaNodes = [new NumaCard(0, 0), new NumaCard(1, 1)],
            Devices = devices,
            Groups = [],
        };
    }

    /// <summary>Tells of a source's state.</summary>
    public static StatusCard Status(params SourceCard[] sources) =>
        new()
        {
            Server = "https://api.example:6443",
            Now = DateTimeOffset.UtcNow,
            Sources = sources.Length > 0 ? sources : [new SourceCard("pcinodes", "live", null)],
        };

    private static DeviceView Device(string node, int i, string text)
    {
        int pf = i / 64;
        string bus = $"0000:{0xa0 + (8 * pf):x2}";
        bool isVf = i % 64 > 0;
        return new DeviceView
        {
            Node = node,
            Address = $"{bus}:{(isVf ? 2 + (i % 64 / 8) : 0):x2}.{i % 8}",
            Name = text,
            VendorId = "8086",
            ProductId = isVf ? "154c" : "1572",
            Type = isVf ? "type-VF" : "type-PF",
            ParentAddress = isVf ? $"{bus}:00.0" : null,
            NumaNode = pf / 2,
            PcieRoot = $"pci{bus}",
            IommuGroup = i,
            Spec = "x710",
            State = i % 5 == 0 && isVf ? "allocated" : "available",
            Claim = i % 5 == 0 && isVf ? "team/a" : null,
        };
    }
}
