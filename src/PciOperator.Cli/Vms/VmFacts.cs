using k8s;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Commands;
using PciOperator.Kubernetes;

namespace PciOperator.Cli.Vms;

/// <summary>What there is to know of VMs and of the claims that they name.</summary>
internal sealed record VmFacts
{
    /// <summary>The VMs that name any claim or device.</summary>
    public required IReadOnlyList<Guest> Guests { get; init; }

    public required IReadOnlyList<PassthroughClaim> Claims { get; init; }

    /// <summary>How KubeVirt is set up; null: that can't be seen.</summary>
    public IReadOnlyList<KubeVirtSetup>? Setups { get; init; }

    /// <summary>The ResourceClaims, of whatever driver; null: they can't be seen.</summary>
    public IReadOnlyList<Resourcev1ResourceClaim>? ResourceClaims { get; init; }

    /// <summary>The ResourceClaimTemplates, of whatever driver; null: they can't be seen.</summary>
    public IReadOnlyList<ClaimTemplate>? Templates { get; init; }

    /// <summary>A claim; null: there is none.</summary>
    public PassthroughClaim? ClaimOf(string ns, string? name) =>
        Claims.FirstOrDefault(c => c.Metadata.NamespaceProperty == ns && c.Metadata.Name == name);

    /// <summary>A ResourceClaim; null: there is none, or it can't be seen.</summary>
    public Resourcev1ResourceClaim? ResourceOf(string ns, string? name) =>
        ResourceClaims?.FirstOrDefault(c => c.Metadata.NamespaceProperty == ns && c.Metadata.Name == name);

    /// <summary>Reads all of it. What may not be seen is said in one warning; without KubeVirt there is nothing to see.</summary>
    public static async Task<VmFacts> LoadAsync(Session session, IReadOnlyList<PassthroughClaim> claims)
    {
        var nothing = new VmFacts { Guests = [], Claims = claims };
        Task<IReadOnlyList<VirtualMachine>?> machines = ListAsync<VirtualMachine>(session);
        Task<IReadOnlyList<VirtualMachineInstance>?> instances = ListAsync<VirtualMachineInstance>(session);
        try
        {
            await Task.WhenAll(machines, instances);
        }
        catch (ApiException absent) when (absent.IsNotFound)
        {
            // No KubeVirt, no VMs.
            return nothing;
        }

        if (await machines is null || await instances is null)
        {
            await session.WarnAsync("you may not list VirtualMachines and their instances: VMs are not looked at");
            return nothing;
        }

        // Most VMs have no host devices: of a cluster without any, nothing more is read.
        Guest[] named =
        [
            .. Guest
                .Of((await machines)!, (await instances)!, [])
                .Where(g => NamesDevices(g.Wanted) || (g.Instance?.Spec is { } spec && NamesDevices(spec))),
        ];
        if (named.Length == 0)
            return nothing;

        Task<IReadOnlyList<LauncherPod>?> launchers = ListAsync<LauncherPod>(
            session,
            new ListOptions { LabelSelector = LauncherPod.Selector }
        );
        Task<IReadOnlyList<KubeVirtSetup>?> setups = OrNoneAsync<KubeVirtSetup>(session);
        Task<IReadOnlyList<Resourcev1ResourceClaim>?> resources = OrNoneAsync<Resourcev1ResourceClaim>(session);
        Task<IReadOnlyList<ClaimTemplate>?> templates = OrNoneAsync<ClaimTemplate>(session);
        await Task.WhenAll(launchers, setups, resources, templates);
        string[] unseen =
        [
            .. new (string Kind, bool Seen)[]
            {
                ("pods", await launchers is not null),
                ("KubeVirts", await setups is not null),
                ("ResourceClaims", await resources is not null),
                ("ResourceClaimTemplates", await templates is not null),
            }
                .Where(k => !k.Seen)
                .Select(k => k.Kind),
        ];
        if (unseen.Length > 0)
            await session.WarnAsync($"you may not list {string.Join(", ", unseen)}: less is known of why VMs don't start");
        var wanted = named.Select(g => (g.Namespace, g.Name)).ToHashSet();
        return new VmFacts
        {
            Guests =
            [
                .. Guest
                    .Of((await machines)!, (await instances)!, await launchers ?? [])
                    .Where(g => wanted.Contains((g.Namespace, g.Name))),
            ],
            Claims = claims,
            Setups = await setups,
            ResourceClaims = await resources,
            Templates = await templates,
        };
    }

    private static bool NamesDevices(GuestSpec spec) => spec.Claims.Any() || spec.Devices.Any();

    /// <summary>All of a kind; null: the caller may not list it.</summary>
    private static async Task<IReadOnlyList<T>?> ListAsync<T>(Session session, ListOptions? options = null)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            EntityList<T> list = await session.Client.ListAsync<T>(null, options, session.Ct);
            foreach (UnreadableObject unreadable in list.Unreadable)
                await session.WarnAsync($"{typeof(T).Name} {unreadable.Key} can't be read and is left out: {unreadable.Reason}");
            return [.. list.Items];
        }
        catch (ApiException forbidden) when (forbidden.IsForbidden)
        {
            return null;
        }
    }

    /// <summary>The same of what a cluster before Kubernetes 1.34 doesn't serve.</summary>
    private static async Task<IReadOnlyList<T>?> OrNoneAsync<T>(Session session)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            return await ListAsync<T>(session);
        }
        catch (ApiException absent) when (absent.IsNotFound)
        {
            return [];
        }
    }
}
