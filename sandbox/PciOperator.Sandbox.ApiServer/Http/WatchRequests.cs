using System.Globalization;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;
using PciOperator.Sandbox.ApiServer.Resources;
using PciOperator.Sandbox.ApiServer.Storage;

namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>Watches: a stream of events, one JSON text a line.</summary>
internal sealed class WatchRequests(ApiCore core)
{
    private readonly ObjectViews _views = new(core);

    public static ApiError TooLarge(long wanted, long current) =>
        new(
            504,
            "Timeout",
            $"Timeout: Too large resource version: {wanted}, current: {current}",
            new JsonObject
            {
                ["causes"] = new JsonArray(
                    new JsonObject { ["reason"] = "ResourceVersionTooLarge", ["message"] = "Too large resource version" }
                ),
                ["retryAfterSeconds"] = 1,
            }
        );

    public async Task HandleAsync(HttpContext context, ResourceType type, string ns)
    {
        IQueryCollection query = context.Request.Query;
        var form = AcceptedForm.Of(context.Request);
        var selector = ObjectSelector.Parse(type, ns, query["labelSelector"], query["fieldSelector"]);
        bool bookmarks = ResourceRequests.IsTrue(query["allowWatchBookmarks"]);
        bool? initialEvents = InitialEvents(query);
        string version = query["resourceVersion"].ToString();
        long? since = null;
        if (version is not ("" or "0") && initialEvents != true)
        {
            since = long.TryParse(version, NumberStyles.None, CultureInfo.InvariantCulture, out long number)
                ? number
                : throw ApiError.Internal(
                    $"resourceVersion: Invalid value: \"{version}\": strconv.ParseUint: parsing \"{version}\": invalid syntax"
                );
        }
        else if (initialEvents == false)
        {
            since = core.Store.ResourceVersion;
        }

        Table table = core.Store.Table(type.StorageTable);
        var subscription = new Subscription(selector.OnlyName);
        var stream = new WatchStream(context, type, selector, form, _views);
        if (
            !core.Store.Subscribe(
                table,
                subscription,
                since,
                out IReadOnlyCollection<StoredObject>? now,
                out List<Change>? replay,
                out long at
            )
        )
        {
            // As a real server does it: the watch starts, and its only event says why it ends.
            await stream.StartAsync();
            stream.WriteError(ApiError.Expired($"too old resource version: {since} ({table.CompactedAt + 1})"));
            await stream.FlushAsync(context.RequestAborted);
            return;
        }

        try
        {
            // Its times begin before the client hears of it: whoever moves the clock then moves this watch's, too.
            TimeProvider time = core.Options.TimeProvider;
            await using ITimer end = time.CreateTimer(
                _ =>
                {
                    if (bookmarks)
                        core.Store.Bookmark(subscription);
                    subscription.Close();
                },
                null,
                Timeout(query),
                System.Threading.Timeout.InfiniteTimeSpan
            );
            await using ITimer? tick = bookmarks
                ? time.CreateTimer(
                    _ => core.Store.Bookmark(subscription),
                    null,
                    core.Options.BookmarkInterval,
                    core.Options.BookmarkInterval
                )
                : null;
            await stream.StartAsync();
            foreach (StoredObject stored in now)
            {
                if (selector.Matches(stored))
                    stream.Write("ADDED", stored);
            }

            if (initialEvents == true && bookmarks)
                stream.WriteBookmark(at, initialEventsEnd: true);
            foreach (Change change in replay)
                stream.Write(change);
            await stream.FlushAsync(context.RequestAborted);
            await FollowAsync(stream, subscription, context.RequestAborted);
        }
        finally
        {
            core.Store.Unsubscribe(table, subscription);
        }
    }

    private async Task FollowAsync(WatchStream stream, Subscription subscription, CancellationToken aborted)
    {
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(aborted, core.Stopping);
        try
        {
            while (await subscription.Inbox.WaitToReadAsync(ending.Token))
            {
                // What is there goes out in one piece.
                while (subscription.Inbox.TryRead(out Delivery delivery))
                {
                    subscription.Taken();
                    if (delivery.Change is { } change)
                        stream.Write(change);
                    else
                        stream.WriteBookmark(delivery.ResourceVersion);
                    if (stream.Buffered > 64 << 10)
                        await stream.FlushAsync(ending.Token);
                }

                await stream.FlushAsync(ending.Token);
            }
        }
        catch (OperationCanceledException)
        {
            // The client left, or the server stops.
        }
    }

    private TimeSpan Timeout(IQueryCollection query) =>
        int.TryParse(query["timeoutSeconds"], out int seconds) && seconds > 0
            ? TimeSpan.FromSeconds(seconds)
            // Between 30 and 60 minutes, so that not all watches end at the same time.
            : TimeSpan.FromMinutes(30 + (30 * core.Identities.NextDouble()));

    private static bool? InitialEvents(IQueryCollection query)
    {
        string text = query["sendInitialEvents"].ToString();
        if (text.Length == 0)
            return null;
        bool wanted = ResourceRequests.IsTrue(text);
        string match = query["resourceVersionMatch"].ToString();
        if (match != "NotOlderThan")
        {
            throw ApiError.Invalid(
                "meta.k8s.io",
                "ListOptions",
                "",
                [
                    Schemas.Violation.Forbidden(
                        "resourceVersionMatch",
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
                    ),
                ]
            );
        }

        return wanted;
    }
}
