using k8s;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Cli.Commands;
using PciOperator.Kubernetes;
using PciOperator.Placement;

namespace PciOperator.Cli.Cluster;

/// <summary>Reads objects, and tells "not there" from "not installed".</summary>
internal static class ClusterReader
{
    /// <summary>All objects of one of our kinds, by namespace and name.</summary>
    public static async Task<IReadOnlyList<T>> ListAsync<T>(this Session session, string? ns = null)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        try
        {
            EntityList<T> list = await session.Client.ListAsync<T>(ns, ct: session.Ct);
            // What is left out silently would be a lie.
            foreach (UnreadableObject unreadable in list.Unreadable)
                await session.WarnAsync($"{typeof(T).Name} {unreadable.Key} can't be read and is left out: {unreadable.Reason}");
            return
            [
                .. list
                    .Items.OrderBy(o => o.Metadata.NamespaceProperty, StringComparer.Ordinal)
                    .ThenBy(o => o.Metadata.Name, StringComparer.Ordinal),
            ];
        }
        catch (ApiException missing) when (missing.IsNotFound)
        {
            throw NotInstalled();
        }
    }

    /// <summary>One object of our kinds.</summary>
    public static async Task<T> RequireAsync<T>(this Session session, string name, string? ns = null)
        where T : class, IKubernetesObject<V1ObjectMeta>
    {
        if (await session.Client.GetAsync<T>(name, ns, session.Ct) is { } found)
            return found;
        if (!await IsInstalledAsync(session))
            throw NotInstalled();
        string kind = typeof(T).Name;
        throw new CliException(
            ExitCodes.NotFound,
            ns is null ? $"There is no {kind} {name}." : $"There is no {kind} {name} in namespace {ns}: choose the namespace with -n."
        );
    }

    /// <summary>The PciNodes: all, or the one of a name; as far as they can be meant.</summary>
    public static async Task<IReadOnlyList<PciNode>> PciNodesAsync(this Session session, string? name) =>
        await session.ReadableAsync(
            string.IsNullOrEmpty(name) ? await session.ListAsync<PciNode>() : [await session.RequireAsync<PciNode>(name)]
        );

    /// <summary>PciNodes as far as they can be meant; what can't is said.</summary>
    public static async Task<IReadOnlyList<PciNode>> ReadableAsync(this Session session, IReadOnlyList<PciNode> nodes)
    {
        foreach (PciNode node in nodes.Where(n => Reports.CountUnreadable(n) > 0))
        {
            await session.WarnAsync(
                $"PciNode {node.Metadata.Name} has devices that can't be meant, and are left out: {Reports.CountUnreadable(node)}"
            );
        }

        return [.. nodes.Select(Reports.Readable)];
    }

    private static async Task<bool> IsInstalledAsync(Session session)
    {
        try
        {
            using System.Text.Json.JsonDocument group = await session.Client.GetRawAsync(
                $"/apis/{PciOperatorApi.GroupVersion}",
                session.Ct
            );
            return true;
        }
        catch (ApiException missing) when (missing.IsNotFound)
        {
            return false;
        }
    }

    /// <summary>PciOperator's resources are not there.</summary>
    public static CliException NotInstalled() =>
        new(
            ExitCodes.NotInstalled,
            $"The cluster doesn't serve {PciOperatorApi.GroupVersion}: PciOperator is not installed there, or --context names another cluster."
        );
}
