-- The announcement (its id without the exchange) that the item of a further source of the exchange belongs to,
-- where it is not the item's own.
ALTER TABLE seen ADD COLUMN notice TEXT;
