using System.Globalization;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Import;

/// <summary>One SriovNetworkNodePolicy, read.</summary>
internal sealed class SriovPolicy
{
    private const int MostDevices = 64;
    private const string NetworkControllers = "02";
    private const int MostVfs = 65535;
    private readonly List<string> _notes = [];
    private readonly List<string> _ranged = [];

    private SriovPolicy(SourceObject manifest) => (File, Line, Name) = (manifest.File, manifest.Line, manifest.Name);

    /// <summary>The file.</summary>
    public string File { get; }

    /// <summary>The line.</summary>
    public int Line { get; }

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>File and line.</summary>
    public Place Place => new(File, Line);

    /// <summary>The resource that its VFs are.</summary>
    public required string ResourceName { get; init; }

    /// <summary>The same as a resource class.</summary>
    public string ResourceClass => Core.ResourceClass.Normalize("SRIOV_" + ResourceName);

    /// <summary>0, the strongest, to 99.</summary>
    public required int Priority { get; init; }

    /// <summary>Labels of its nodes.</summary>
    public required IReadOnlyDictionary<string, string> NodeSelector { get; init; }

    /// <summary>How many VFs; null: somebody else makes them.</summary>
    public int? NumVfs { get; private init; }

    /// <summary>The PFs and their VFs.</summary>
    public IReadOnlyList<DeviceSelectorSpec> Devices { get; private set; } = [];

    /// <summary>The ports of which it takes a part of the VFs.</summary>
    public IReadOnlyList<string> Ranged => _ranged;

    /// <summary>What is otherwise here.</summary>
    public IReadOnlyList<string> Notes => _notes;

    /// <summary>Reads a policy; null: it selects nothing.</summary>
    /// <exception cref="ManifestException">A field can't be meant.</exception>
    /// <exception cref="SpecFormatException">The policy can't be meant.</exception>
    public static SriovPolicy? Of(SourceObject manifest)
    {
        Fields spec = manifest.Root.Map("spec") ?? throw new SpecFormatException("spec", "it has no spec");
        Fields? nics = spec.Map("nicSelector");
        if (nics is null || !nics.Others.Any())
            return null;
        bool external = spec.Flag("externallyManaged") == true;
        int priority = spec.Number("priority") ?? 0;
        int numVfs = spec.Number("numVfs") ?? 0;
        if (priority is < 0 or > 99)
            throw new SpecFormatException("priority", $"priority {priority} is none of 0 to 99");
        if (numVfs is < 0 or > MostVfs)
            throw new SpecFormatException("numVfs", $"numVfs {numVfs} is no number of VFs");
        var policy = new SriovPolicy(manifest)
        {
            ResourceName = spec.Text("resourceName") ?? throw new SpecFormatException("resourceName", "it has no resourceName"),
            Priority = priority,
            NodeSelector = spec.Labels("nodeSelector"),
            NumVfs = external ? null : numVfs,
        };
        policy.Select(nics);
        policy.NoteOthers(spec, external);
        return policy;
    }

    private void Select(Fields nics)
    {
        PciId? vendor = Id(nics, "vendor");
        PciId? product = Id(nics, "deviceID");
        PciId? vfs = vendor is { } v && product is { } p ? VfIds.Of(v, p) : null;
        IReadOnlyList<string> addresses = nics.Texts("rootDevices");
        IReadOnlyList<string> names = nics.Texts("pfNames");
        if (nics.Text("netFilter") is { } filter)
        {
            _notes.Add(
                $"netFilter {Text.Shorten(filter)} is left out: what network a NIC is in is not looked at. Select by address, or by nodeSelector."
            );
        }

        if (addresses.Count > 0 && names.Count > 0)
        {
            _notes.Add(
                $"pfNames ({Text.Shorten(string.Join(", ", names))}) are left out: rootDevices say where the PFs are, and an address doesn't change its name."
            );
        }

        List<DeviceSelectorSpec> ports =
        [
            .. addresses.Count > 0
                ? addresses.Select(a => new DeviceSelectorSpec { Address = AddressGlob.Parse(WithoutRange(a)).ToString() })
                : names.Select(n => new DeviceSelectorSpec { DeviceName = WithoutRange(n) }),
        ];
        if (ports.Count == 0)
        {
            if (vendor is null && product is null)
            {
                throw new SpecFormatException(
                    "nicSelector",
                    "it selects by nothing that can be carried over (vendor, deviceID, rootDevices, pfNames), and would match every device"
                );
            }

            // The operator knows NICs alone; without it an id is any device's.
            ports.Add(new DeviceSelectorSpec { ClassCode = NetworkControllers });
            NoteVfsByIds(vendor, product, vfs);
        }
        else if (product is not null && vfs is null)
        {
            _notes.Add(
                $"deviceID {product} is left out: the product id of its VFs is not known here, and they would not match. The PF is said by its place."
            );
        }

        Devices = [.. ports.SelectMany(port => OfPort(port, vendor, product, vfs)).Distinct()];
        if (Devices.Count > MostDevices)
        {
            throw new SpecFormatException(
                "nicSelector",
                $"it needs {Devices.Count} selectors, and a PciDeviceSpec has {MostDevices} at most: select by ids, or make several policies of it"
            );
        }
    }

    // A port's place means it and its VFs; with an id, those that have it.
    private static DeviceSelectorSpec[] OfPort(DeviceSelectorSpec port, PciId? vendor, PciId? product, PciId? vfs)
    {
        port = port with { VendorId = vendor?.ToString() };
        bool placed = port.Address is not null || port.DeviceName is not null;
        if (product is not { } pf || (placed && vfs is null))
            return [port];
        DeviceSelectorSpec[] both = [port with { ProductId = pf.ToString() }, port with { ProductId = vfs?.ToString() }];
        return vfs is null ? both[..1] : both;
    }

    private void NoteVfsByIds(PciId? vendor, PciId? product, PciId? vfs)
    {
        if (product is null)
        {
            _notes.Add($"It selects by vendor alone: all network controllers of {vendor} are matched, PFs and VFs.");
        }
        else if (vfs is null)
        {
            _notes.Add(
                $"The product id of the VFs of {vendor}:{product} is not known here: add it as another entry of devices, or no VF is offered (lspci -nn shows it)."
            );
        }
    }

    private string WithoutRange(string port)
    {
        int at = port.IndexOf('#', StringComparison.Ordinal);
        if (at < 0)
            return port;
        string name = port[..at];
        string[] ends = port[(at + 1)..].Split('-');
        if (ends.Length != 2 || !ends.All(e => int.TryParse(e, NumberStyles.None, CultureInfo.InvariantCulture, out _)))
            throw new SpecFormatException("nicSelector", $"'{Text.Shorten(port)}' is not PORT#FIRST-LAST, such as ens1f0#0-3");
        _ranged.Add(name);
        _notes.Add(
            $"{Text.Shorten(port)}: all VFs of {Text.Shorten(name)} are meant here, not VFs {port[(at + 1)..]} alone: a selector has no VF numbers."
        );
        return name;
    }

    private static PciId? Id(Fields nics, string field) =>
        nics.Text(field) is not { } text ? null
        : PciId.TryParse(text, out PciId id) ? id
        : throw new SpecFormatException(field, $"{field} '{Text.Shorten(text)}' is not four hexadecimal digits, for example 15b3");

    private void NoteOthers(Fields spec, bool external)
    {
        if (external)
            _notes.Add("externallyManaged: sriov is left out, so the number of VFs stays as somebody else makes it.");
        if (spec.Text("deviceType") is null or "netdevice")
        {
            _notes.Add(
                "deviceType netdevice can't be carried over: a device that a claim holds is bound to vfio-pci, for a VM or DPDK. Pods that use the VF as a network interface stay with the SR-IOV operator."
            );
        }

        Note(spec, "mtu", "an interface's MTU is the host's network configuration");
        if (spec.Flag("isRdma") == true)
            _notes.Add("isRdma is left out: whoever gets a VF whole has its RDMA, too, by the guest's own driver.");
        if (spec.Flag("needVhostNet") == true)
            _notes.Add("needVhostNet is left out: /dev/vhost-net is no PCI device's.");
        if (spec.Text("linkType") is { } link && !link.Equals("eth", StringComparison.OrdinalIgnoreCase))
        {
            _notes.Add(
                $"linkType {Text.Shorten(link)} is left out: the port's firmware says it (mlxconfig); devices are not selected by it."
            );
        }
        else
        {
            _ = spec.Text("linkType");
        }

        if (spec.Text("eSwitchMode") is { } mode and not "legacy")
            _notes.Add($"eSwitchMode {Text.Shorten(mode)} is left out: the eswitch is left alone. Set it at boot, before VFs are made.");
        Note(spec, "vdpaType", "vDPA devices are not given away, only VFs");
        if (spec.Flag("excludeTopology") == true)
            _notes.Add("excludeTopology is left out: a claim says by numaPolicy whether the NUMA node counts.");
        if (spec.Map("bridge") is { } bridge && bridge.Others.Any())
            _notes.Add("bridge is left out: Open vSwitch is the host's network configuration.");
        foreach (string other in spec.Others)
            _notes.Add($"{Text.Shorten(other)} is left out: it is not known here.");
    }

    private void Note(Fields spec, string field, string why)
    {
        if (spec.Text(field) is { } value)
            _notes.Add($"{field} {Text.Shorten(value)} is left out: {why}.");
    }
}
