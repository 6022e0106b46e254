using PciOperator.Cli.Vms;

namespace PciOperator.Cli.Diagnose;

/// <summary>What KubeVirt has to be set up with for a VM's devices (docs/kubevirt.md): feature gates by its version, and its list of permitted devices.</summary>
internal static class VmGates
{
    private const string HostDevices = "HostDevices";
    private const string GpusWithDra = "GPUsWithDRA";
    private const string HostDevicesWithDra = "HostDevicesWithDRA";

    // KubeVirt's version of which its launchers read what our driver writes, and the one that has the gates for it on.
    private static readonly Version Reads = new(1, 8);
    private static readonly Version HasThemOn = new(1, 9);

    /// <summary>What is missing. Of a KubeVirt that can't be seen nothing is.</summary>
    public static IEnumerable<(string Problem, string Fix)> Of(VmFacts facts, Guest guest, IReadOnlyList<ClaimUse> uses)
    {
        if (facts.Setups is not [{ } setup, ..])
            yield break;
        HashSet<string> own = ClaimUse.OwnEntries(uses);
        bool ByDra(GuestDevice d) => d.ClaimName is { } name && own.Contains(name);
        GuestDevice[] gpus = [.. guest.Wanted.Gpus];
        GuestDevice[] others = [.. guest.Wanted.HostDevices];
        Version? version = VersionOf(setup);
        if (version is not null && version < Reads && (gpus.Any(ByDra) || others.Any(ByDra)))
        {
            yield return (
                $"It takes devices by resourceClaims, and KubeVirt here is {setup.Status!.ObservedKubeVirtVersion}: it does so from 1.8 on.",
                "Update KubeVirt, or make the claim with delivery DevicePlugin."
            );
            yield break;
        }

        string[] missing =
        [
            .. new (string Gate, bool Needed)[]
            {
                (HostDevices, others.Any(d => ByDra(d) || d.IsByOurPlugin)),
                (GpusWithDra, gpus.Any(ByDra)),
                (HostDevicesWithDra, others.Any(ByDra)),
            }
                .Where(g => g.Needed && IsOff(setup, g.Gate, version))
                .Select(g => g.Gate),
        ];
        if (missing.Length > 0)
        {
            yield return (
                $"KubeVirt {setup.Metadata.NamespaceProperty}/{setup.Metadata.Name} has not switched on {string.Join(", ", missing)}, which the VM's devices need.",
                $"Add {string.Join(", ", missing)} to its spec.configuration.developerConfiguration.featureGates (kubectl edit kubevirt {setup.Metadata.Name} -n {setup.Metadata.NamespaceProperty}), and take it out of disabledFeatureGates."
            );
        }

        if (setup.Spec?.Configuration?.PermittedHostDevices is not { } permitted)
            yield break;
        foreach (string resource in gpus.Concat(others).Where(d => d.IsByOurPlugin).Select(d => d.DeviceName!).Distinct())
        {
            // The controller takes a name out again when its claim goes: of such a one that is said elsewhere.
            if (
                facts.Claims.Any(c => c.Status?.ResourceName == resource)
                && (permitted.PciHostDevices ?? []).All(p => p?.ResourceName != resource)
            )
            {
                yield return (
                    $"KubeVirt {setup.Metadata.NamespaceProperty}/{setup.Metadata.Name} has a list permittedHostDevices, and {resource} is not in it.",
                    "kubectl apply -f config/kubevirt/permitted-host-devices.yaml: the controller then keeps the list in step with the claims."
                );
            }
        }
    }

    private static bool IsOff(KubeVirtSetup setup, string gate, Version? version)
    {
        DeveloperConfiguration? developer = setup.Spec?.Configuration?.DeveloperConfiguration;
        if (developer?.DisabledFeatureGates?.Contains(gate) == true)
            return true;
        if (developer?.FeatureGates?.Contains(gate) == true)
            return false;
        // HostDevices is off in every version; the other two are not known of a version that is not.
        return gate == HostDevices || (version is not null && version < HasThemOn);
    }

    private static Version? VersionOf(KubeVirtSetup setup)
    {
        string[] parts = (setup.Status?.ObservedKubeVirtVersion ?? "").TrimStart('v').Split('.', '-', '+');
        return
            parts.Length >= 2 && int.TryParse(parts[0], out int major) && int.TryParse(parts[1], out int minor) && major >= 0 && minor >= 0
            ? new Version(major, minor)
            : null;
    }
}
