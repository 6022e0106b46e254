using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Import;

/// <summary>
/// Harvester's PCIDeviceClaims (what is open to passthrough), with the PCIDevices that say what they are, and its SRIOVNetworkDevices: a
/// PciDeviceSpec for each node and pool, and a PciAlias for each resource name.
/// </summary>
public static class HarvesterImport
{
    private const string Group = "devices.harvesterhci.io";
    private const int ClaimedPriority = 10;
    private const int MostDevices = 64;
    private const int MostAliasDevices = 16;

    /// <summary>Reads files.</summary>
    public static ImportResult Read(IReadOnlyList<SourceFile> files)
    {
        ArgumentNullException.ThrowIfNull(files);
        var draft = new ImportDraft();
        var objects = new HarvesterObjects();
        foreach (SourceObject manifest in files.SelectMany(f => SourceObject.ReadAll(f, draft)))
        {
            try
            {
                if (manifest.ApiGroup != Group || !objects.Take(manifest))
                    draft.Notes.Add(OfOther(manifest));
            }
            catch (ManifestException e)
            {
                draft.Refuse(manifest.File, e.Line, $"{Text.Shorten(manifest.Name)}: {e.Message}");
            }
            catch (SpecFormatException e)
            {
                draft.Refuse(manifest.File, manifest.Line, $"{Text.Shorten(manifest.Name)}: {e.Message}");
            }
        }

        objects.Join();
        foreach (IGrouping<(string, string?), HarvesterClaim> pool in objects.Claims.GroupBy(c => (c.Node, c.OwnClass)))
        {
            foreach (HarvesterClaim[] some in pool.Chunk(MostDevices))
                AddSpec(draft, some);
        }

        foreach (HarvesterNic nic in objects.Nics.Where(n => n.NumVfs > 0))
            AddNic(draft, nic, objects.DeviceAt(nic.Node, nic.Address));
        AddAliases(draft, objects);
        int without = objects.Nics.Count(n => n.NumVfs == 0);
        if (without > 0)
            draft.Notes.Add($"{without} SRIOVNetworkDevices have no VFs: nothing is said of them, so that whatever VFs they have stay.");
        int unclaimed = objects.Devices.Count(d => !objects.Claims.Any(c => c.Device == d));
        if (unclaimed > 0)
            draft.Notes.Add($"{unclaimed} PCIDevices without a PCIDeviceClaim are not open to passthrough, there or here.");
        return draft.Result(files);
    }

    private static void AddSpec(ImportDraft draft, HarvesterClaim[] claims)
    {
        HarvesterClaim first = claims[0];
        var notes = new List<string>
        {
            $"{string.Join(", ", claims.Select(c => $"{c.Place} {Text.Shorten(c.Name)}"))}: PCIDeviceClaims on node {first.Node}",
        };
        foreach (HarvesterClaim claim in claims.Where(c => c.Device is null))
        {
            notes.Add(
                $"{claim.Address}: no PCIDevice in these files says what it is; it is selected by its address alone, which another card may have one day. Add vendorId and productId."
            );
        }

        string name = ObjectNames.Label(first.OwnClass is null ? $"harvester-{first.Node}" : $"harvester-{first.Name}", "harvester");
        draft.Add(
            first.Place,
            name,
            new PciDeviceSpecSpec
            {
                NodeSelector = NodeOf(first.Node),
                Priority = ClaimedPriority,
                Devices = [.. claims.Select(SelectorOf).Distinct()],
                ResourceClass = first.OwnClass,
            },
            notes
        );
    }

    // With its product id a PF's address means the PF alone, not its VFs.
    private static DeviceSelectorSpec SelectorOf(HarvesterClaim claim) =>
        new()
        {
            VendorId = claim.Device?.Vendor.ToString(),
            ProductId = claim.Device?.Product.ToString(),
            Address = claim.Address,
        };

    private static void AddNic(ImportDraft draft, HarvesterNic nic, HarvesterDevice? device)
    {
        var notes = new List<string> { $"{nic.Place}: SRIOVNetworkDevice {Text.Shorten(nic.Name)}" };
        if (device is null)
        {
            notes.Add(
                "No PCIDevice in these files says what the port is: all of its VFs are offered, too, and not only those with a PCIDeviceClaim."
            );
        }
        else
        {
            notes.Add("It makes the VFs; those with a PCIDeviceClaim are offered. To offer all of them, take vendorId and productId out.");
        }

        draft.Add(
            nic.Place,
            ObjectNames.Label($"harvester-vfs-{nic.Name}", "harvester-vfs"),
            new PciDeviceSpecSpec
            {
                NodeSelector = NodeOf(nic.Node),
                Devices =
                [
                    new DeviceSelectorSpec
                    {
                        VendorId = device?.Vendor.ToString(),
                        ProductId = device?.Product.ToString(),
                        Address = nic.Address,
                    },
                ],
                Sriov = new SriovSpec { NumVfs = nic.NumVfs },
            },
            notes
        );
    }

    private static void AddAliases(ImportDraft draft, HarvesterObjects objects)
    {
        IEnumerable<IGrouping<string, HarvesterClaim>> pooled = objects
            .Claims.Where(c => c is { Device: not null, OwnClass: null })
            .GroupBy(c => c.Device!.ResourceName, StringComparer.Ordinal);
        foreach (IGrouping<string, HarvesterClaim> resource in pooled)
        {
            AliasDevice[] devices = [.. resource.SelectMany(c => DevicesOf(c, objects)).Distinct()];
            string[] owners = [.. resource.Select(c => c.User).OfType<string>().Distinct()];
            var notes = new List<string>
            {
                $"resourceName {Text.Shorten(resource.Key)}: where a VM has it as deviceName, a claim asks for this alias.",
            };
            if (owners.Length > 0)
            {
                notes.Add(
                    $"Claimed there by {Text.Shorten(string.Join(", ", owners))}: here whoever may make claims in a namespace may ask for it."
                );
            }

            AddAlias(
                draft,
                resource.First().Place,
                resource.Key[(resource.Key.IndexOf('/', StringComparison.Ordinal) + 1)..],
                devices,
                notes
            );
        }

        foreach (HarvesterClaim own in objects.Claims.Where(c => c.OwnClass is not null))
        {
            AddAlias(
                draft,
                own.Place,
                own.Name,
                [.. Types(objects.IsPf(own)).Select(t => new AliasDevice { ResourceClass = own.OwnClass, DeviceType = t })],
                [
                    $"{own.Place}: this one device"
                        + (own.IsSingle ? " (disableResourcePooling)." : ", which no PCIDevice in these files describes."),
                ]
            );
        }
    }

    private static void AddAlias(ImportDraft draft, Place from, string name, AliasDevice[] devices, List<string> notes)
    {
        if (devices.Length > MostAliasDevices)
            notes.Add($"Of {devices.Length} descriptions the first {MostAliasDevices} are kept: an alias has no more.");
        draft.Add(
            from,
            draft.AliasNames.Unique(ObjectNames.Label(name, "device")),
            new PciAliasSpec { Devices = [.. devices.Take(MostAliasDevices)] },
            notes
        );
    }

    private static IEnumerable<AliasDevice> DevicesOf(HarvesterClaim claim, HarvesterObjects objects) =>
        Types(objects.IsPf(claim))
            .Select(type => new AliasDevice
            {
                VendorId = claim.Device!.Vendor.ToString(),
                ProductId = claim.Device.Product.ToString(),
                DeviceType = type,
            });

    // Harvester doesn't say whether a card could have VFs, and then only an alias for PFs gets it.
    private static DeviceType?[] Types(bool isPf) => isPf ? [DeviceType.Pf] : [null, DeviceType.Pf];

    private static Dictionary<string, string> NodeOf(string node) => new() { [NovaConfImport.NodeLabel] = node };

    private static string OfOther(SourceObject other)
    {
        string why = (other.ApiGroup, other.Kind) switch
        {
            (Group, "USBDevice" or "USBDeviceClaim") =>
                "USB devices are not PCI functions; give the whole USB controller away, which is one",
            (Group, "VGPUDevice" or "SRIOVGPUDevice" or "MigConfiguration" or "MIGConfiguration") =>
                "vGPUs need the vendor's driver on the host; here a GPU is given away whole",
            (Group, "Node") => "kubectl get pn says what a node has",
            ("kubevirt.io", "VirtualMachine" or "VirtualMachineInstance") =>
                "VMs are not rewritten: each needs a claim, and names it instead of a deviceName (docs/kubevirt.md)",
            _ => "it has nothing about PCI devices",
        };
        return $"{other.File}:{other.Line}: {Text.Shorten(other.Kind)} {Text.Shorten(other.Name)} is left out: {why}.";
    }
}
