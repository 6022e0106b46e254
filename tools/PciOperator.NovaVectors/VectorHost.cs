using System.Text.Json;
using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.NovaVectors;

/// <summary>A case's host in this project's types.</summary>
public sealed class VectorHost
{
    private static readonly JsonElement Nothing = JsonDocument.Parse("[]").RootElement;

    private readonly Dictionary<int, int?> _sockets;

    private VectorHost(IReadOnlyList<PciFunction> functions, IReadOnlyList<int> cells, Dictionary<int, int?> sockets) =>
        (Functions, Cells, _sockets) = (functions, cells, sockets);

    /// <summary>What Nova's driver reports: a device outside its limits (a domain above ffff) is left out there, so it is here.</summary>
    public IReadOnlyList<PciFunction> Functions { get; }

    /// <summary>The host's NUMA nodes, in Nova's order.</summary>
    public IReadOnlyList<int> Cells { get; }

    /// <summary>The socket of each NUMA node, also of one that a device claims to be on and the host has not.</summary>
    public IReadOnlyDictionary<int, int?> Sockets => _sockets;

    public static VectorHost Of(JsonElement devices, JsonElement cells)
    {
        List<PciFunction> functions = Of(devices);
        var known = new List<int>();
        var sockets = new Dictionary<int, int?>();
        if (cells.ValueKind == JsonValueKind.Array)
        {
            foreach (JsonElement cell in cells.EnumerateArray())
            {
                known.Add(cell.GetProperty("id").GetInt32());
                sockets[known[^1]] = Number(cell, "socket");
            }
        }

        var host = new VectorHost(functions, known, sockets);
        host.NoteNodes(functions);
        return host;
    }

    /// <summary>A device's node that is no cell of the host shares a socket with none, and makes none unknown.</summary>
    public void NoteNodes(IEnumerable<PciFunction> devices)
    {
        foreach (int node in devices.Where(_ => Cells.Count > 0).Select(f => f.NumaNode).OfType<int>())
            _sockets.TryAdd(node, -1 - node);
    }

    public static List<PciFunction> Of(JsonElement devices)
    {
        var functions = new List<PciFunction>();
        foreach (JsonElement d in devices.EnumerateArray())
        {
            if (!PciAddress.TryParse(Text(d, "address"), out PciAddress address) || address.Domain > 0xffff)
                continue;
            PciAddress? parent = PciAddress.TryParse(Text(d, "parent_addr"), out PciAddress p) ? p : null;
            DeviceType type = NovaWords.ParseDeviceType(Text(d, "dev_type")!);
            functions.Add(
                new PciFunction
                {
                    Address = address,
                    VendorId = PciId.Parse(Text(d, "vendor_id")!),
                    ProductId = PciId.Parse(Text(d, "product_id")!),
                    Type = type,
                    ParentAddress = parent,
                    NumaNode = Number(d, "numa_node"),
                    // A PF of which a case does not say it can have VFs.
                    SriovTotalVfs = Number(d, "sriov_totalvfs") ?? (type == DeviceType.Pf ? 1 : 0),
                    VfProductId = PciId.TryParse(Text(d, "vf_product_id"), out PciId vf) ? vf : null,
                    NetDevice = Text(d, "ifname"),
                    ParentNetDevice = Text(d, "parent_ifname"),
                    CardSerial =
                        d.TryGetProperty("capabilities", out JsonElement c)
                        && c.ValueKind == JsonValueKind.Object
                        && c.TryGetProperty("vpd", out JsonElement vpd)
                        && vpd.ValueKind == JsonValueKind.Object
                            ? Text(vpd, "card_serial_number")
                            : null,
                }
            );
        }

        return functions;
    }

    /// <summary>The specs of a case: those that parse, and the first error.</summary>
    public static (IReadOnlyList<DeviceRule> Rules, SpecFormatException? Error) Rules(JsonElement specs, IReadOnlyList<PciFunction> host)
    {
        var rules = new List<DeviceRule>();
        foreach (JsonElement spec in specs.EnumerateArray())
        {
            try
            {
                foreach (DeviceRule rule in NovaDeviceSpec.Parse(RawText(spec)))
                {
                    NovaDeviceSpec.CheckOnHost(rule, host);
                    rules.Add(OnHost(rule, host) with { Name = $"{rules.Count}" });
                }
            }
            catch (SpecFormatException e)
            {
                return (rules, e);
            }
        }

        return (rules, null);
    }

    // Nova decides once, when it reads a spec, whether the address in it is a PF's. On a real host that can't differ from what a look at a
    // VF tells (the PF is there), but a case may hide a PF and go on showing its VFs; then they are not meant.
    private static DeviceRule OnHost(DeviceRule rule, IReadOnlyList<PciFunction> host)
    {
        return rule with { Selectors = [.. rule.Selectors.Select(Narrowed)] };

        DeviceSelector Narrowed(DeviceSelector s)
        {
            PciAddress? named =
                s.FullAddress
                ?? host.FirstOrDefault(f => f is { Type: DeviceType.Pf, SriovTotalVfs: 0, NetDevice: { } n } && n == s.DeviceName)?.Address;
            if (s.IdsOfNone || named is not { } a || host.Any(f => f.Address == a && f is { Type: DeviceType.Pf, SriovTotalVfs: > 0 }))
                return s;
            return DeviceSelector.Parse(
                new DeviceSelectorFields
                {
                    VendorId = s.VendorId?.ToString(),
                    ProductId = s.ProductId?.ToString(),
                    AddressPattern = new($"{a.Domain:x4}$", $"{a.Bus:x2}$", $"{a.Slot:x2}$", $"{a.Function}$"),
                }
            );
        }
    }

    /// <summary>Whether a remote-managed spec names, by its netdev, a PF for which the case does not say the product id of VFs.</summary>
    public static bool VfProductUnsaid(JsonElement specs, IReadOnlyList<PciFunction> host)
    {
        foreach (JsonElement spec in specs.EnumerateArray())
        {
            try
            {
                if (
                    NovaDeviceSpec
                        .Parse(RawText(spec))
                        .Any(r =>
                            r.Tags.RemoteManaged
                            && r.Selectors.Any(s =>
                                s.DeviceName is { } name
                                && host.Any(f => f.NetDevice == name && f is { Type: DeviceType.Pf, VfProductId: null })
                            )
                        )
                )
                {
                    return true;
                }
            }
            catch (SpecFormatException)
            {
                // Compared for itself.
            }
        }

        return false;
    }

    /// <summary>The aliases of a case, or the first error.</summary>
    public static (
        IReadOnlyDictionary<string, AliasDefinition> Aliases,
        IReadOnlyList<NovaAlias> Values,
        SpecFormatException? Error
    ) Aliases(JsonElement aliases)
    {
        var values = new List<NovaAlias>();
        try
        {
            // One by one, as Nova does: the first error is that of the first bad value, whether by itself or beside those before it.
            return (NovaAlias.Join(Read()), values, null);
        }
        catch (SpecFormatException e)
        {
            return (new Dictionary<string, AliasDefinition>(), values, e);
        }

        IEnumerable<NovaAlias> Read()
        {
            foreach (JsonElement alias in aliases.EnumerateArray())
            {
                values.Add(NovaAlias.Parse(RawText(alias)));
                yield return values[^1];
            }
        }
    }

    /// <summary>The host as a node, each device an IOMMU group of its own.</summary>
    public NodeInventory ToNode(IReadOnlyDictionary<PciAddress, DeviceRule> matched) =>
        NodeInventory.Build(
            "host",
            [
                .. Functions
                    .Where(f => matched.ContainsKey(f.Address))
                    .Select(
                        (f, i) =>
                            new NodeDevice
                            {
                                Function = f with { IommuGroup = i },
                                Tags = matched[f.Address].Tags,
                                Rule = matched[f.Address].Name,
                            }
                    ),
            ],
            Sockets
        );

    /// <summary>A list of a case; an empty one where it has none.</summary>
    public static JsonElement List(JsonElement e, string name) =>
        e.TryGetProperty(name, out JsonElement list) && list.ValueKind == JsonValueKind.Array ? list : Nothing;

    public static string? Text(JsonElement e, string name) =>
        e.TryGetProperty(name, out JsonElement v) && v.ValueKind == JsonValueKind.String ? v.GetString() : null;

    public static int? Number(JsonElement e, string name) =>
        e.TryGetProperty(name, out JsonElement v) && v.ValueKind == JsonValueKind.Number ? v.GetInt32() : null;

    private static string RawText(JsonElement e) => e.ValueKind == JsonValueKind.String ? e.GetString()! : e.GetRawText();
}
