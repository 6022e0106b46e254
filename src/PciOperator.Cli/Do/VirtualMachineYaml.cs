using System.Text.Json;
using System.Text.Json.Nodes;
using PciOperator.Api;
using PciOperator.Cli.Cluster;
using PciOperator.Cli.Commands;
using PciOperator.Kubernetes;

namespace PciOperator.Cli.Do;

/// <summary>A KubeVirt VM with the devices of a claim, as docs/kubevirt.md has it.</summary>
internal static class VirtualMachineYaml
{
    private const string Volume = "root";
    private const string ClaimInVm = "devices";

    /// <summary>Writes one. What the caller may not read (PciNode, aliases) it does without.</summary>
    public static async Task<JsonElement> OfAsync(Session session, PassthroughClaim claim, string name, string memory, string image)
    {
        bool byPlugin = claim.Spec.Delivery == Delivery.DevicePlugin || claim.Status?.ResourceName is { Length: > 0 };
        if (claim.Spec.Delivery == Delivery.None)
        {
            throw new CliException(
                ExitCodes.No,
                $"Claim {claim.Metadata.Name} says delivery None, so that no pod gets its devices: use kubectl pci xml {claim.Metadata.Name}, or make a claim without it."
            );
        }

        string? resource = claim.Status?.ResourceName;
        if (byPlugin && string.IsNullOrEmpty(resource))
        {
            throw new CliException(
                ExitCodes.No,
                $"Claim {claim.Metadata.Name} has no resource name yet: wait until it is placed (kubectl pci explain {claim.Metadata.Name})."
            );
        }

        IReadOnlyDictionary<string, PciNodeDevice> facts = await FactsAsync(session, claim);
        var gpus = new JsonArray();
        var others = new JsonArray();
        foreach ((string request, string? address, _) in RequestName.Of(claim))
        {
            JsonObject entry = byPlugin
                ? new() { ["name"] = request, ["deviceName"] = resource }
                : new()
                {
                    ["name"] = request,
                    ["claimName"] = ClaimInVm,
                    ["requestName"] = request,
                };
            bool display =
                address is not null && facts.GetValueOrDefault(address)?.ClassCode?.StartsWith("03", StringComparison.Ordinal) == true;
            (display ? gpus : others).Add((JsonNode)entry);
        }

        var devices = new JsonObject();
        if (gpus.Count > 0)
            devices["gpus"] = gpus;
        if (others.Count > 0)
            devices["hostDevices"] = others;
        devices["disks"] = new JsonArray(
            new JsonObject
            {
                ["name"] = Volume,
                ["disk"] = new JsonObject { ["bus"] = "virtio" },
            }
        );
        var spec = new JsonObject();
        if (!byPlugin)
        {
            spec["resourceClaims"] = new JsonArray(new JsonObject { ["name"] = ClaimInVm, ["resourceClaimName"] = claim.Metadata.Name });
        }

        spec["domain"] = new JsonObject
        {
            ["memory"] = new JsonObject { ["guest"] = memory },
            ["devices"] = devices,
        };
        spec["volumes"] = new JsonArray(
            new JsonObject
            {
                ["name"] = Volume,
                ["containerDisk"] = new JsonObject { ["image"] = image },
            }
        );
        var template = new JsonObject();
        if (await HidesHypervisorAsync(session, claim))
        {
            template["metadata"] = new JsonObject { ["labels"] = new JsonObject { [$"{PciOperatorApi.Group}/hide-hypervisor"] = "true" } };
        }

        template["spec"] = spec;
        var vm = new JsonObject
        {
            ["apiVersion"] = "kubevirt.io/v1",
            ["kind"] = "VirtualMachine",
            ["metadata"] = new JsonObject { ["name"] = name, ["namespace"] = claim.Metadata.NamespaceProperty },
            ["spec"] = new JsonObject { ["runStrategy"] = "Always", ["template"] = template },
        };
        using var document = JsonDocument.Parse(vm.ToJsonString());
        return document.RootElement.Clone();
    }

    private static async Task<IReadOnlyDictionary<string, PciNodeDevice>> FactsAsync(Session session, PassthroughClaim claim)
    {
        try
        {
            PciNode? node = claim.Status?.NodeName is { Length: > 0 } name
                ? await session.Client.GetAsync<PciNode>(name, ct: session.Ct)
                : null;
            return (node?.Status?.Devices ?? []).DistinctBy(d => d.Address).ToDictionary(d => d.Address);
        }
        catch (ApiException forbidden) when (forbidden.IsForbidden)
        {
            return new Dictionary<string, PciNodeDevice>();
        }
    }

    private static async Task<bool> HidesHypervisorAsync(Session session, PassthroughClaim claim)
    {
        try
        {
            HashSet<string> asked = [.. claim.Spec.Requests.Select(r => r.Alias)];
            return (await session.ListAsync<PciAlias>()).Any(a => asked.Contains(a.Metadata.Name) && a.Spec.HideHypervisor == true);
        }
        catch (ApiException forbidden) when (forbidden.IsForbidden)
        {
            await session.WarnAsync("you may not read PciAliases: whether the guest's driver wants the hypervisor hidden is not known");
            return false;
        }
    }
}
