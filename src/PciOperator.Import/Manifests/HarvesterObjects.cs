using PciOperator.Core;

namespace PciOperator.Import;

/// <summary>A PCIDevice: what is at an address.</summary>
internal sealed record HarvesterDevice(string Node, string Address, PciId Vendor, PciId Product, string ResourceName);

/// <summary>An SRIOVNetworkDevice: a port, and how many VFs it shall have.</summary>
internal sealed record HarvesterNic(Place Place, string Name, string Node, string Address, int NumVfs);

/// <summary>A PCIDeviceClaim.</summary>
internal sealed class HarvesterClaim
{
    /// <summary>File and line.</summary>
    public required Place Place { get; init; }

    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>The node.</summary>
    public required string Node { get; init; }

    /// <summary>The address.</summary>
    public required string Address { get; init; }

    /// <summary>Who claimed it.</summary>
    public string? User { get; init; }

    /// <summary>Whether a VM gets just this device, and none like it.</summary>
    public bool IsSingle { get; init; }

    /// <summary>What is there; null: not in these files.</summary>
    public HarvesterDevice? Device { get; set; }

    /// <summary>A resource class of its own, where it is not one of a pool of like devices.</summary>
    public string? OwnClass => IsSingle || Device is null ? ResourceClass.Normalize("HARVESTER_" + Name) : null;
}

/// <summary>What Harvester's objects say together, in any order of files.</summary>
internal sealed class HarvesterObjects
{
    private readonly List<HarvesterDevice> _devices = [];
    private readonly List<HarvesterClaim> _claims = [];
    private readonly List<HarvesterNic> _nics = [];

    /// <summary>All devices.</summary>
    public IReadOnlyList<HarvesterDevice> Devices => _devices;

    /// <summary>What is open to passthrough.</summary>
    public IReadOnlyList<HarvesterClaim> Claims => _claims;

    /// <summary>Ports with VFs.</summary>
    public IReadOnlyList<HarvesterNic> Nics => _nics;

    /// <summary>Takes an object; false: it is none of these kinds.</summary>
    /// <exception cref="ManifestException">A field can't be meant.</exception>
    /// <exception cref="SpecFormatException">A field is missing.</exception>
    public bool Take(SourceObject manifest)
    {
        switch (manifest.Kind)
        {
            case "PCIDevice":
                TakeDevice(manifest);
                return true;
            case "PCIDeviceClaim":
                TakeClaim(manifest);
                return true;
            case "SRIOVNetworkDevice":
                TakeNic(manifest);
                return true;
            default:
                return false;
        }
    }

    /// <summary>Puts devices to their claims.</summary>
    public void Join()
    {
        foreach (HarvesterClaim claim in _claims)
            claim.Device = DeviceAt(claim.Node, claim.Address);
    }

    /// <summary>What is at an address.</summary>
    public HarvesterDevice? DeviceAt(string node, string address) => _devices.FirstOrDefault(d => d.Node == node && d.Address == address);

    /// <summary>Whether it is a port that could have VFs.</summary>
    public bool IsPf(HarvesterClaim claim) => _nics.Any(n => n.Node == claim.Node && n.Address == claim.Address);

    private void TakeDevice(SourceObject manifest)
    {
        // What an agent of Harvester's has not looked at yet has no status.
        if (manifest.Root.Map("status") is not { } status || status.Text("address") is null)
            return;
        string resource = Needed(status, "resourceName");
        _devices.Add(
            new HarvesterDevice(Needed(status, "nodeName"), AddressOf(status), Id(status, "vendorId"), Id(status, "deviceId"), resource)
        );
    }

    private void TakeClaim(SourceObject manifest)
    {
        Fields spec = manifest.Root.Map("spec") ?? throw new SpecFormatException("spec", "it has no spec");
        _claims.Add(
            new HarvesterClaim
            {
                Place = new Place(manifest.File, manifest.Line),
                Name = manifest.Name,
                Node = Needed(spec, "nodeName"),
                Address = AddressOf(spec),
                User = spec.Text("userName"),
                IsSingle = spec.Flag("disableResourcePooling") == true,
            }
        );
    }

    private void TakeNic(SourceObject manifest)
    {
        Fields spec = manifest.Root.Map("spec") ?? throw new SpecFormatException("spec", "it has no spec");
        int count = spec.Number("numVFs") ?? 0;
        if (count is < 0 or > 65535)
            throw new SpecFormatException("numVFs", $"numVFs {count} is no number of VFs");
        _nics.Add(
            new HarvesterNic(new Place(manifest.File, manifest.Line), manifest.Name, Needed(spec, "nodeName"), AddressOf(spec), count)
        );
    }

    private static string Needed(Fields fields, string name) =>
        fields.Text(name) ?? throw new SpecFormatException(name, $"it has no {name}");

    // Harvester's own texts leave out domain 0000.
    private static string AddressOf(Fields fields)
    {
        string text = Needed(fields, "address");
        string whole = text.Count(c => c == ':') == 1 ? "0000:" + text : text;
        return PciAddress.TryParse(whole, out PciAddress address)
            ? address.ToString()
            : throw new SpecFormatException(
                "address",
                $"address '{Text.Shorten(text)}' is not domain:bus:slot.function, for example 0000:21:00.0"
            );
    }

    private static PciId Id(Fields fields, string name) =>
        PciId.TryParse(Needed(fields, name), out PciId id)
            ? id
            : throw new SpecFormatException(name, $"{name} is not four hexadecimal digits, for example 10de");
}
