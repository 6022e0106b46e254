using System.Text.Json.Nodes;
using PciOperator.Sandbox.ApiServer.Http;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Storage;

namespace PciOperator.Sandbox.ApiServer.Background;

/// <summary>
/// Serves what CustomResourceDefinitions define. One that is deleted takes its objects with it, and stays, without
/// taking new ones, until their finalizers have let the last of them go.
/// </summary>
internal sealed class DefinitionServing(ObjectStore store, Catalog catalog, ObjectWriter writer)
{
    public void OnChanged(Table table, Change change)
    {
        if (table.Name == BuiltIns.CrdTable)
        {
            if (change.New is { } crd)
                Serve(crd, beginsToGo: crd.IsTerminating && change.Old is { IsTerminating: false });
            else
                Withdraw(change.Subject.Name);
        }
        else if (change.New is null && store.Table(BuiltIns.CrdTable).Get("", table.Name) is { IsTerminating: true })
        {
            Finish(table.Name);
        }
    }

    private void Serve(StoredObject crd, bool beginsToGo)
    {
        // The table starts here, so that what was before is too old to watch.
        Table table = store.Table(crd.Name);
        catalog.SetCustom(crd.Name, CustomResources.Versions(crd.Value));
        if (!beginsToGo || catalog.OfTable(table.Name) is not { } type)
            return;
        foreach (StoredObject stored in table.Objects.Values)
        {
            try
            {
                writer.Delete(type, stored.Namespace, stored.Name, new DeleteOptions());
            }
            catch (ApiError e) when (e.Code == 404)
            {
                // It went by itself.
            }
        }

        Finish(crd.Name);
    }

    private void Finish(string name)
    {
        if (!store.Table(name).Objects.IsEmpty)
            return;
        try
        {
            writer.Update(
                catalog.OfTable(BuiltIns.CrdTable)!,
                "",
                name,
                null,
                new WriteOptions { FieldManager = "crd-finalizer" },
                current =>
                {
                    JsonObject metadata = current.Child("metadata");
                    List<string?> left =
                        metadata.Arr("finalizers")?.Select(Json.AsString).Where(f => f != CustomResources.CleanupFinalizer).ToList() ?? [];
                    metadata["finalizers"] = new JsonArray([.. left.Select(f => JsonValue.Create(f))]);
                    MetadataRules.Prune(metadata, []);
                    return current;
                }
            );
        }
        catch (ApiError e) when (e.Code is 404 or 409)
        {
            // Another thread finished it.
        }
    }

    private void Withdraw(string name)
    {
        catalog.SetCustom(name, []);
        store.CloseWatches(store.Table(name));
    }
}
