using System.Text.Json;

namespace PciOperator.Core.Tests;

/// <summary>
/// A host and a claim of a file in HardHostFiles: sockets of NUMA nodes, the guest's nodes (null: not known), requests, devices.
/// </summary>
internal sealed class HostFile
{
    private HostFile(NodeInventory node, ClaimRequirements claim) => (Node, Claim) = (node, claim);

    public NodeInventory Node { get; }

    public ClaimRequirements Claim { get; }

    public static HostFile Read(string name)
    {
        using var document = JsonDocument.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "HardHostFiles", name + ".json")));
        JsonElement root = document.RootElement;
        JsonElement guest = root.GetProperty("guest");
        return new HostFile(
            NodeInventory.Build(
                name,
                [.. root.GetProperty("devices").EnumerateArray().Select(Device)],
                root.GetProperty("sockets").EnumerateObject().ToDictionary(p => int.Parse(p.Name), p => (int?)p.Value.GetInt32())
            ),
            new ClaimRequirements
            {
                ClaimUid = "claim",
                GuestNuma =
                    guest.ValueKind == JsonValueKind.Null
                        ? GuestNuma.Unknown
                        : GuestNuma.On(guest.EnumerateArray().Select(n => n.GetInt32())),
                Requests = [.. root.GetProperty("requests").EnumerateArray().Select(Request)],
            }
        );
    }

    private static NodeDevice Device(JsonElement d) =>
        new()
        {
            Function = new PciFunction
            {
                Address = PciAddress.Parse(d.GetProperty("address").GetString()!),
                VendorId = new PciId(0x8086),
                ProductId = PciId.Parse(d.GetProperty("product").GetString()!),
                Type = NovaWords.ParseDeviceType(d.GetProperty("type").GetString()!),
                ParentAddress = d.GetProperty("parent").GetString() is { } parent ? PciAddress.Parse(parent) : null,
                NumaNode = d.GetProperty("numa").GetInt32(),
                IommuGroup = d.GetProperty("group").GetInt32(),
            },
            Tags = DeviceTags.None with { Companions = CompanionPolicy.Allow },
        };

    private static DeviceRequest Request(JsonElement r, int index) =>
        new()
        {
            Name = $"r{index}",
            Count = r.GetProperty("count").GetInt32(),
            NumaPolicy = NovaWords.ParseNumaPolicy(r.GetProperty("policy").GetString()!),
            Alias = new AliasDefinition
            {
                Name = $"a{index}",
                AnyOf =
                [
                    .. r.GetProperty("anyOf")
                        .EnumerateArray()
                        .Select(s => new AliasSelector
                        {
                            ProductId = PciId.Parse(s.GetProperty("product").GetString()!),
                            Type = NovaWords.ParseDeviceType(s.GetProperty("type").GetString()!),
                        }),
                ],
            },
        };
}
