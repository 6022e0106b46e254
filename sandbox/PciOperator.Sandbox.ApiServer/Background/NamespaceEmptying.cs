using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Storage;

namespace PciOperator.Sandbox.ApiServer.Background;

/// <summary>
/// Deletes what is in a namespace that is being deleted, and lets the namespace go when all of it, finalizers included,
/// has gone; as kube-controller-manager does it.
/// </summary>
internal sealed class NamespaceEmptying(ObjectStore store, Catalog catalog, ObjectWriter writer)
{
    private const string Namespaces = "namespaces";

    public void OnChanged(Table table, Change change)
    {
        if (table.Name == Namespaces)
        {
            if (change.New is { IsTerminating: true } ns && change.Old is { IsTerminating: false })
            {
                Empty(ns.Name);
                Finish(ns.Name);
            }
        }
        else if (change.New is null && change.Subject.Namespace.Length > 0)
        {
            Finish(change.Subject.Namespace);
        }
    }

    private void Empty(string ns)
    {
        foreach ((Table? table, StoredObject? stored) in Content(ns).ToList())
        {
            if (catalog.OfTable(table.Name) is not { } type)
                continue;
            try
            {
                writer.Delete(type, ns, stored.Name, new DeleteOptions());
            }
            catch (ApiError e) when (e.Code == 404)
            {
                // It went by itself.
            }
        }
    }

    private void Finish(string ns)
    {
        if (store.Table(Namespaces).Get("", ns) is not { IsTerminating: true } stored)
            return;
        if (stored.Value.Obj("spec").Arr("finalizers") is not { Count: > 0 } || Content(ns).Any())
            return;
        try
        {
            writer.Update(
                catalog.Find("", "v1", Namespaces)!,
                "",
                ns,
                "finalize",
                new WriteOptions { FieldManager = "namespace-controller" },
                current =>
                {
                    current.Child("spec")["finalizers"] = new JsonArray();
                    return current;
                }
            );
        }
        catch (ApiError e) when (e.Code == 404)
        {
            // Another thread finished it.
        }
    }

    private IEnumerable<(Table Table, StoredObject Object)> Content(string ns) =>
        store.Tables.Where(t => t.Name != Namespaces).SelectMany(t => t.In(ns).Select(o => (t, o)));
}
