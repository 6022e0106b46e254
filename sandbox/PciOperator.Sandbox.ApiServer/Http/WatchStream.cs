using System.Buffers;
using System.Globalization;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Storage;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>The answer to a watch: turns changes into the events that its selector and form ask for.</summary>
internal sealed class WatchStream(HttpContext context, ResourceType type, ObjectSelector selector, AcceptedForm form, ObjectViews views)
{
    private readonly ArrayBufferWriter<byte> _buffer = new(4096);
    private bool _columnsSent;
    private long _bookmarked;

    public int Buffered => _buffer.WrittenCount;

    public async Task StartAsync()
    {
        context.Response.StatusCode = 200;
        context.Response.ContentType = form.Parameters.Length > 0 ? form.Parameters : "application/json";
        context.Response.Headers.CacheControl = "no-cache, private";
        await context.Response.StartAsync(context.RequestAborted);
        // The headers alone tell the client that the watch stands.
        await context.Response.BodyWriter.FlushAsync(context.RequestAborted);
    }

    /// <summary>An object that comes into or leaves the selector's view is ADDED or DELETED for this watch.</summary>
    public void Write(Change change)
    {
        bool before = change.Old is { } old && selector.Matches(old);
        bool after = change.New is { } now && selector.Matches(now);
        switch (before, after)
        {
            case (false, true):
                Write("ADDED", change.New!);
                break;
            case (true, true):
                Write("MODIFIED", change.New!);
                break;
            case (true, false):
                Write("DELETED", change.Subject);
                break;
        }
    }

    public void Write(string eventType, StoredObject stored)
    {
        Begin(eventType);
        if (form.Form == ObjectForm.Whole && type.FromStored is null)
        {
            _buffer.Write(stored.Utf8);
        }
        else
        {
            JsonObject obj = ObjectWriter.Shown(type, stored);
            Json.Write(
                _buffer,
                form.Form switch
                {
                    ObjectForm.Table => Table(obj, stored.ResourceVersion),
                    ObjectForm.PartialMetadata => ObjectViews.Partial(obj),
                    _ => obj,
                }
            );
        }

        _buffer.Write("}\n"u8);
    }

    public void WriteError(ApiError error)
    {
        Begin("ERROR");
        Json.Write(_buffer, error.ToStatus());
        _buffer.Write("}\n"u8);
    }

    public void WriteBookmark(long resourceVersion, bool initialEventsEnd = false)
    {
        if (resourceVersion == _bookmarked)
            return;
        _bookmarked = resourceVersion;
        var metadata = new JsonObject { ["resourceVersion"] = resourceVersion.ToString(CultureInfo.InvariantCulture) };
        if (initialEventsEnd)
            metadata["annotations"] = new JsonObject { ["k8s.io/initial-events-end"] = "true" };
        Begin("BOOKMARK");
        var obj = new JsonObject
        {
            ["kind"] = type.Kind,
            ["apiVersion"] = type.GroupVersion,
            ["metadata"] = metadata,
        };
        Json.Write(
            _buffer,
            form.Form switch
            {
                ObjectForm.Table => new JsonObject
                {
                    ["kind"] = "Table",
                    ["apiVersion"] = "meta.k8s.io/v1",
                    ["metadata"] = metadata.Copy(),
                    ["columnDefinitions"] = null,
                    ["rows"] = new JsonArray(),
                },
                ObjectForm.PartialMetadata => ObjectViews.Partial(obj),
                _ => obj,
            }
        );
        _buffer.Write("}\n"u8);
    }

    public async ValueTask FlushAsync(CancellationToken ct)
    {
        if (_buffer.WrittenCount == 0)
            return;
        await context.Response.BodyWriter.WriteAsync(_buffer.WrittenMemory, ct);
        _buffer.ResetWrittenCount();
    }

    private JsonObject Table(JsonObject obj, long resourceVersion)
    {
        var metadata = new JsonObject { ["resourceVersion"] = resourceVersion.ToString(CultureInfo.InvariantCulture) };
        JsonObject table = views.TableOf(context.Request, type, [obj], metadata, withColumns: !_columnsSent);
        _columnsSent = true;
        return table;
    }

    private void Begin(string eventType)
    {
        _buffer.Write("{\"type\":\""u8);
        _buffer.Write(System.Text.Encoding.ASCII.GetBytes(eventType));
        _buffer.Write("\",\"object\":"u8);
    }
}
